import { usage } from "../../shared/config/options.ts";
import type { Spread } from "../../worker/bench/spread.ts";

/** A median with its quartiles. */
export const shown = ({ median, first, third }: Spread, digits: number): string =>
  `${median.toFixed(digits)} (${first.toFixed(digits)} to ${third.toFixed(digits)})`;

/** @throws LockstepError LS_USAGE */
export function countOf(name: string, text: string): number {
  if (/^[1-9]\d{0,4}$/.test(text)) return Number(text);
  throw usage(`${name} must be a whole number of at least 1; it is "${text}".`);
}
