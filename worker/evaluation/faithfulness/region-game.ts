import { basename } from "node:path";
import { z } from "zod";
import { mapOf } from "../maps.ts";
import { wilson } from "../metrics/interval.ts";
import { predictedClasses } from "../metrics/probabilities.ts";
import type { Predictions } from "../predictions.ts";
import { type Ellipse, pointed, regionMask } from "./regions.ts";

const fraction = z.number().min(0).max(1);
const count = z.number().int().min(0);

/** `regions` in report.json: maps of the true class beside what people marked. */
export const regionsSchema = z.object({
  file: z.string(),
  images: count.describe("Test images with a region and a map that speaks for some place"),
  pointingGame: z.object({ hits: count, count, value: fraction, low: fraction, high: fraction }),
  centreHits: fraction.describe("What pointing at the middle would reach"),
  energy: fraction.describe("Share of the positive evidence inside the region, mean over images"),
  area: fraction.describe("Share of the picture that regions cover: what a uniform map would reach"),
  energyWhenRight: fraction.nullable(),
  energyWhenWrong: fraction.nullable(),
});
export type Regions = z.infer<typeof regionsSchema>;

/** What people marked, by place in the test set, and the file that says so. */
export interface Marked {
  readonly file: string;
  readonly ellipses: ReadonlyMap<number, readonly Ellipse[]>;
}

/**
 * Plays the pointing games over the test set.
 * @returns null without marks, without maps, or where nothing can be compared
 */
export function regionsFound(
  marked: Marked | null,
  predictions: Predictions,
  { height, width }: { readonly height: number; readonly width: number },
): Regions | null {
  const { maps, labels } = predictions;
  if (marked === null || maps === null) return null;
  const predicted = predictedClasses(predictions);
  const games = [...marked.ellipses].flatMap(([image, ellipses]) => {
    const region = regionMask(ellipses, height, width);
    const game = pointed(mapOf(maps, image, 1), region, height, width);
    const middle = Math.floor(height / 2) * width + Math.floor(width / 2);
    return game === null ? [] : [{ ...game, centre: region[middle] === 1, right: predicted[image] === labels[image] }];
  });
  if (games.length === 0) return null;
  const mean = (values: readonly number[]) =>
    values.length === 0 ? null : values.reduce((sum, value) => sum + value, 0) / values.length;
  return {
    file: basename(marked.file),
    images: games.length,
    pointingGame: { ...wilson(games.filter(({ hit }) => hit).length, games.length) },
    centreHits: games.filter(({ centre }) => centre).length / games.length,
    energy: mean(games.map(({ energy }) => energy))!,
    area: mean(games.map(({ area }) => area))!,
    energyWhenRight: mean(games.flatMap(({ energy, right }) => (right ? [energy] : []))),
    energyWhenWrong: mean(games.flatMap(({ energy, right }) => (right ? [] : [energy]))),
  };
}
