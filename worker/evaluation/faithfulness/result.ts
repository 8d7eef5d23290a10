import { z } from "zod";
import { DOMAIN, Stream } from "../../../shared/plan/random.ts";
import { Z95 } from "../metrics/interval.ts";
import { type CascadeStep, dependsOnWeights } from "./cascade.ts";
import { type ExaminedImage, RANKINGS, type RankingName } from "./examine.ts";
import { areaUnder, CURVE_SHARES, mean, type Probed, ROAD_SHARES, roadScore } from "./probes.ts";

/** A mean. */
export const intervalSchema = z
  .object({ mean: z.number(), low: z.number(), high: z.number() })
  .describe("With its 95 % interval");
const value = intervalSchema;
const curve = z.array(z.number());
const ranked = z.object({
  road: value.describe("Probability kept without the least relevant pixels minus that without the most relevant ones"),
  insertion: value.describe("Area under the curve; more is better"),
  deletion: value.describe("Area under the curve; less is better"),
  most: curve,
  least: curve,
  insertionCurve: curve,
  deletionCurve: curve,
});

/** `faithfulness` in report.json: whether maps show what the model goes by. */
export const faithfulnessSchema = z.object({
  images: z.number().int(),
  roadShares: z.array(z.number()).describe("Shares of the pixels removed"),
  curveShares: z.array(z.number()),
  rankings: z.object({ map: ranked, random: ranked, centre: ranked }),
  roadAhead: z
    .object({ random: value, centre: value })
    .describe("ROAD of the map minus that of each baseline, paired by image"),
  randomisation: z
    .object({
      images: z.number().int(),
      layers: z.array(
        z.object({ layer: z.string(), correlation: z.number().describe("Spearman's, mean over images") }),
      ),
      passed: z.boolean().describe("Whether maps change when all weights are shuffled"),
    })
    .nullable(),
});
export type Faithfulness = z.infer<typeof faithfulnessSchema>;

/** Images that the randomisation looks at. */
const CASCADE_IMAGES = 16;

/** Test images to examine: drawn without a look at any prediction, the same for the same seed. */
export function drawImages(testImages: number, count: number, seed: number): { all: number[]; cascade: number[] } {
  const order = new Stream(seed, DOMAIN.evaluation, 2).shuffle(Int32Array.from({ length: testImages }, (_, i) => i));
  const all = [...order.subarray(0, count)];
  return { all, cascade: all.slice(0, CASCADE_IMAGES) };
}

/** Puts together what processes found, in whatever order it came. */
export function faithfulnessOf(examined: readonly ExaminedImage[], steps: readonly CascadeStep[] | null): Faithfulness {
  const images = [...examined].sort((a, b) => a.image - b.image);
  const of = (name: RankingName, measure: (probed: Probed) => number) =>
    images.map(({ rankings }) => measure(rankings[name]));
  const curveOf = (name: RankingName, which: keyof Probed) =>
    images[0]!.rankings[name][which].map((_, i) => mean(of(name, (probed) => probed[which][i]!)));
  const ranking = (name: RankingName) => ({
    road: interval(of(name, roadScore)),
    insertion: interval(of(name, ({ insertion }) => areaUnder(insertion))),
    deletion: interval(of(name, ({ deletion }) => areaUnder(deletion))),
    most: curveOf(name, "most"),
    least: curveOf(name, "least"),
    insertionCurve: curveOf(name, "insertion"),
    deletionCurve: curveOf(name, "deletion"),
  });
  const ahead = (name: RankingName) =>
    interval(images.map(({ rankings }) => roadScore(rankings.map) - roadScore(rankings[name])));
  const [map, random, centre] = RANKINGS.map(ranking);
  return {
    images: images.length,
    roadShares: [...ROAD_SHARES],
    curveShares: [...CURVE_SHARES],
    rankings: { map: map!, random: random!, centre: centre! },
    roadAhead: { random: ahead("random"), centre: ahead("centre") },
    randomisation:
      steps === null
        ? null
        : {
            images: steps[0]?.correlations.length ?? 0,
            layers: steps.map(({ layer, correlations }) => ({ layer, correlation: mean(correlations) })),
            passed: dependsOnWeights(steps),
          },
  };
}

/** Mean with the 95 % interval of the normal approximation. */
export function interval(values: readonly number[]): { mean: number; low: number; high: number } {
  const centre = mean(values);
  const variance = values.reduce((sum, v) => sum + (v - centre) ** 2, 0) / Math.max(1, values.length - 1);
  const half = Z95 * Math.sqrt(variance / values.length);
  return { mean: centre, low: centre - half, high: centre + half };
}
