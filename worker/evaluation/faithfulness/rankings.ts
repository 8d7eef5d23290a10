import type { Stream } from "../../../shared/plan/random.ts";
import { type Grid, upsample } from "../maps.ts";

/** Pixels of a picture, the most relevant first. */
export type Ranking = Int32Array;

/** By a map, enlarged to the picture; equal ones row by row. */
export function byMap(map: Grid, height: number, width: number): Ranking {
  return bySize(upsample(map, height, width).values);
}

/** The baseline that knows nothing: any order. */
export const byChance = (pixels: number, stream: Stream): Ranking =>
  stream.shuffle(Int32Array.from({ length: pixels }, (_, pixel) => pixel));

/** The baseline of photographers: things are in the middle. */
export function byCentre(height: number, width: number): Ranking {
  const nearness = Float32Array.from({ length: height * width }, (_, pixel) => {
    const [y, x] = [Math.floor(pixel / width) - (height - 1) / 2, (pixel % width) - (width - 1) / 2];
    return -(y * y + x * x);
  });
  return bySize(nearness);
}

function bySize(values: Float32Array): Ranking {
  return Int32Array.from(values.keys()).sort((a, b) => values[b]! - values[a]! || a - b);
}

/** The first `share` of a ranking as a mask over pixels. */
export function chosen(ranking: Ranking, share: number): Uint8Array {
  const mask = new Uint8Array(ranking.length);
  for (const pixel of ranking.subarray(0, Math.round(share * ranking.length))) mask[pixel] = 1;
  return mask;
}

/**
 * Spearman's rank correlation of two maps of equal extent, ties at their mean rank; 0 where one of them is uniform or not
 * finite, and says nothing.
 */
export function rankCorrelation(a: Float32Array, b: Float32Array): number {
  if (a.length !== b.length) throw new RangeError("maps must have the same extent");
  if (![...a, ...b].every(Number.isFinite)) return 0;
  const [x, y] = [ranksOf(a), ranksOf(b)];
  const mean = (a.length - 1) / 2;
  let [covariance, varianceA, varianceB] = [0, 0, 0];
  for (let i = 0; i < x.length; i++) {
    covariance += (x[i]! - mean) * (y[i]! - mean);
    varianceA += (x[i]! - mean) ** 2;
    varianceB += (y[i]! - mean) ** 2;
  }
  return varianceA === 0 || varianceB === 0 ? 0 : covariance / Math.sqrt(varianceA * varianceB);
}

function ranksOf(values: Float32Array): Float64Array {
  const order = Int32Array.from(values.keys()).sort((a, b) => values[a]! - values[b]!);
  const ranks = new Float64Array(values.length);
  for (let from = 0; from < order.length; ) {
    let to = from + 1;
    while (to < order.length && values[order[to]!] === values[order[from]!]) to += 1;
    for (let i = from; i < to; i++) ranks[order[i]!] = (from + to - 1) / 2;
    from = to;
  }
  return ranks;
}
