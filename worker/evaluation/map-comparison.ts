import { z } from "zod";
import { mean } from "./faithfulness/probes.ts";
import { rankCorrelation } from "./faithfulness/rankings.ts";
import { interval, intervalSchema } from "./faithfulness/result.ts";
import { type Grid, mapOf, upsample } from "./maps.ts";
import { predictedClasses } from "./metrics/probabilities.ts";
import type { Predictions } from "./predictions.ts";

/** `pairs[].maps` in comparison.json: whether two models look at the same places for the true class. */
export const mapAgreementSchema = z.object({
  images: z.number().int(),
  same: intervalSchema.describe("Spearman's rank correlation of the two models' maps of one image, mean over images"),
  other: intervalSchema.describe("The same for maps of different images of one class: what habit alone would give"),
  bothRight: z.number().nullable().describe("Mean over the images that both recognise; null where there are none"),
  oneRight: z.number().nullable().describe("Mean over the images that one of them recognises"),
  neither: z.number().nullable(),
});
export type MapAgreement = z.infer<typeof mapAgreementSchema>;

/** Test images that show a pair side by side. None is in two lists. */
export interface PairExamples {
  /** Both right, maps most alike. */
  readonly alike: readonly number[];
  /** Both right, maps least alike. */
  readonly apart: readonly number[];
  readonly onlyFirst: readonly number[];
  readonly onlySecond: readonly number[];
}

/**
 * Compares where two models look: their maps of the true class, on the finer one's grid.
 * @returns null where one of them has no maps, or there are no images
 */
export function compareMaps(
  first: Predictions,
  second: Predictions,
  examples: number,
): { readonly agreement: MapAgreement; readonly examples: PairExamples } | null {
  const { labels, samples } = first;
  if (first.maps === null || second.maps === null || samples === 0) return null;
  const [a, b] = gridsOf(first, second);
  const following = nextOfClass(labels);
  const same = a.map((map, i) => rankCorrelation(map, b[i]!));
  const other = a.map((map, i) => rankCorrelation(map, b[following[i]!]!));
  const right = [first, second].map((predictions) => {
    const predicted = predictedClasses(predictions);
    return Array.from(labels, (label, i) => label === predicted[i]);
  }) as [boolean[], boolean[]];
  const where = (holds: (one: boolean, two: boolean) => boolean) =>
    [...labels.keys()].filter((i) => holds(right[0][i]!, right[1][i]!));
  const over = (ids: readonly number[]) => (ids.length === 0 ? null : mean(ids.map((i) => same[i]!)));
  const both = where((one, two) => one && two).sort((i, j) => same[j]! - same[i]! || i - j);
  const alike = both.slice(0, examples);
  const apart = both.slice(examples).slice(-examples).reverse();
  const least = (ids: readonly number[]) => [...ids].sort((i, j) => same[i]! - same[j]! || i - j).slice(0, examples);
  return {
    agreement: {
      images: samples,
      same: interval(same),
      other: interval(other),
      bothRight: over(both),
      oneRight: over(where((one, two) => one !== two)),
      neither: over(where((one, two) => !one && !two)),
    },
    examples: {
      alike,
      apart,
      onlyFirst: least(where((one, two) => one && !two)),
      onlySecond: least(where((one, two) => !one && two)),
    },
  };
}

/** Maps of the true class of every image, of both models at the same extent. */
function gridsOf(first: Predictions, second: Predictions): [Float32Array[], Float32Array[]] {
  const height = Math.max(first.maps!.height, second.maps!.height);
  const width = Math.max(first.maps!.width, second.maps!.width);
  const enlarged = (map: Grid) =>
    map.height === height && map.width === width ? map.values : upsample(map, height, width).values;
  return [first, second].map(({ maps, samples }) =>
    Array.from({ length: samples }, (_, i) => enlarged(mapOf(maps!, i, 1))),
  ) as [Float32Array[], Float32Array[]];
}

/** For each image the next one of its class, the first again after the last. */
function nextOfClass(labels: Int32Array): Int32Array {
  const next = new Int32Array(labels.length);
  const [first, last] = [new Map<number, number>(), new Map<number, number>()];
  for (const [id, label] of labels.entries()) {
    if (last.has(label)) next[last.get(label)!] = id;
    else first.set(label, id);
    last.set(label, id);
  }
  for (const [label, id] of last) next[id] = first.get(label)!;
  return next;
}
