import { medianOf } from "./history.ts";
import type { Measured } from "./measures.ts";

/** What was measured with: part of every figure. */
export interface Setting {
  readonly model: string;
  readonly batch: number;
  /** Processes that compute when it happens. */
  readonly workers: number | string;
}

/** Minimum, median and maximum, in whole milliseconds. */
export type Spread = readonly [least: number, median: number, most: number];

export interface Row extends Setting {
  readonly event: string;
  readonly tries: number;
  readonly millis: Spread | null;
  readonly parts: Readonly<Record<string, Spread>>;
}

/** Sums tries up. */
export function rowOf(event: string, setting: Setting, found: readonly Measured[]): Row {
  const names = Object.keys(found[0]?.parts ?? {});
  const parts = Object.fromEntries(names.map((name) => [name, spreadOf(found.map((one) => one.parts[name]!))]));
  const millis = found.length === 0 ? null : spreadOf(found.map((one) => one.millis));
  return { event, ...setting, tries: found.length, millis, parts };
}

function spreadOf(values: readonly number[]): Spread {
  return [Math.min(...values), medianOf(values), Math.max(...values)].map(Math.round) as unknown as Spread;
}

/** A Markdown table; times in milliseconds, as minimum / median / maximum. */
export function tableOf(rows: readonly Row[]): string {
  const show = (spread: Spread | null) => spread?.join(" / ") ?? "–";
  const lines = rows.map(({ event, model, batch, workers, tries, millis, parts }) => {
    const split = Object.entries(parts).map(([name, spread]) => `${name} ${show(spread)}`);
    return [event, model, batch, workers, tries, show(millis), split.join("; ")].join(" | ");
  });
  const head = "event | model | batch | workers | tries | ms (min / median / max) | of it";
  return [head, "---|---|---:|---:|---:|---:|---", ...lines].map((line) => `| ${line} |`).join("\n");
}
