/** Median and quartiles of repeated measurements. */
export interface Spread {
  readonly median: number;
  readonly first: number;
  readonly third: number;
}

export function spreadOf(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (part: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))]!;
  return { median: at(0.5), first: at(0.25), third: at(0.75) };
}
