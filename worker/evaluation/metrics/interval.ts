/** A share of a count with its interval, all as fractions. */
export interface Proportion {
  readonly hits: number;
  readonly count: number;
  readonly value: number;
  readonly low: number;
  readonly high: number;
}

/** Two-sided 95 % quantile of the normal distribution. */
export const Z95 = 1.959963984540054;

/**
 * Wilson's score interval (E. B. Wilson 1927), 95 % by default: unlike the normal approximation it stays inside 0..1 and
 * holds for few samples and for shares near the ends. Of nothing the value is 0 and the interval is everything.
 */
export function wilson(hits: number, count: number, z = Z95): Proportion {
  if (!(hits >= 0 && hits <= count)) throw new RangeError(`${hits} hits of ${count}`);
  if (count === 0) return { hits, count, value: 0, low: 0, high: 1 };
  const value = hits / count;
  const square = z * z;
  const centre = (value + square / (2 * count)) / (1 + square / count);
  const half = (z / (1 + square / count)) * Math.sqrt((value * (1 - value)) / count + square / (4 * count * count));
  // At the ends the bound is exact, where rounding would miss it by an ulp.
  return {
    hits,
    count,
    value,
    low: hits === 0 ? 0 : Math.max(0, centre - half),
    high: hits === count ? 1 : Math.min(1, centre + half),
  };
}
