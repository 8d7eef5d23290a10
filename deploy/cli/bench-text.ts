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

/** Names of a list, all of them known. @throws LockstepError LS_USAGE */
export function listOf(name: string, text: string, known: object): string[] {
  const list = text.split(",").map((item) => item.trim());
  const wrong = list.find((item) => !Object.hasOwn(known, item));
  if (wrong === undefined) return list;
  throw usage(`${name} has no "${wrong}".`, `Use some of ${Object.keys(known).join(", ")}.`);
}
