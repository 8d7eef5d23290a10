import { DOMAIN, Stream } from "../../../shared/plan/random.ts";

export interface Difference {
  /** Accuracy of the first model minus that of the second. */
  readonly value: number;
  readonly low: number;
  readonly high: number;
}

/**
 * Difference of two accuracies with its 95 % percentile interval from the paired bootstrap (Efron, Tibshirani 1993): test
 * samples are drawn with replacement, each with both models' answers. The same seed gives the same interval.
 */
export function pairedBootstrap(
  first: readonly boolean[],
  second: readonly boolean[],
  { seed = 0, draws = 2000 }: { readonly seed?: number; readonly draws?: number } = {},
): Difference {
  if (first.length !== second.length) throw new RangeError("both models must have seen the same samples");
  const count = first.length;
  const gains = Int8Array.from(first, (right, i) => Number(right) - Number(second[i]));
  const total = gains.reduce((sum, gain) => sum + gain, 0);
  if (count === 0) return { value: 0, low: 0, high: 0 };
  const stream = new Stream(seed, DOMAIN.evaluation);
  const differences = Float64Array.from({ length: draws }, () => {
    let sum = 0;
    for (let i = 0; i < count; i++) sum += gains[stream.integer(count)]!;
    return sum / count;
  }).sort();
  return { value: total / count, low: quantile(differences, 0.025), high: quantile(differences, 0.975) };
}

/** Quantile of sorted values, linear between neighbours. */
export function quantile(sorted: Float64Array, q: number): number {
  const at = q * (sorted.length - 1);
  const below = Math.floor(at);
  const low = sorted[below]!;
  return low + (at - below) * ((sorted[below + 1] ?? low) - low);
}
