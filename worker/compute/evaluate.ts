import type { Recipe } from "../../shared/config/schema.ts";
import type { Dataset } from "../../shared/data/dataset.ts";
import { Augmenter } from "../loader/augment.ts";
import type { EvaluatedBatch } from "./messages.ts";
import type { Prediction, Predictor } from "./predictor.ts";

/** What evaluation reads of a run's config. */
export interface EvaluationConfig {
  readonly recipe: Pick<Recipe, "augmentation" | "resolutions" | "seed" | "flipAveraging"> & {
    readonly data: Pick<Recipe["data"], "classes">;
  };
}

/**
 * Predicts one fixed batch of test images. The last batch is filled up with its first image, so that every batch has the
 * same layout and an image's result depends on nothing but its batch.
 */
export function evaluateBatch(
  predictor: Predictor,
  dataset: Dataset,
  config: EvaluationConfig,
  batch: number,
  size: number,
): EvaluatedBatch {
  const { recipe } = config;
  const { channels, height, width } = dataset.shape;
  const side = recipe.resolutions.reduce((most, resolution) => Math.max(most, resolution.side), 0);
  const augmenter = new Augmenter(recipe.augmentation, dataset.shape, recipe.seed);
  const from = batch * size;
  const samples = Math.min(size, dataset.test.count - from);
  const raw = new Uint8Array(channels * height * width);
  const pixels = side * side * channels;
  const images = new Float32Array(size * pixels);
  for (let i = 0; i < size; i++) {
    dataset.test.read(from + (i < samples ? i : 0), raw);
    augmenter.plain(raw, side, images.subarray(i * pixels, (i + 1) * pixels));
  }
  const shape = [size, side, side, channels] as const;
  const { logits, plainLogits, maps } = predictor.run(images, shape, recipe.flipAveraging);
  const classes = recipe.data.classes;
  const predicted = Int32Array.from({ length: size }, (_, i) =>
    largest(logits.subarray(i * classes, (i + 1) * classes)),
  );
  const actual = Int32Array.from({ length: size }, (_, i) => dataset.test.labels[from + (i < samples ? i : 0)]!);
  const chosen =
    maps !== null
      ? [predicted, actual].map((wanted) => mapsOfClass(maps, classes, wanted))
      : [predicted, actual].map((wanted) => predictor.gradientMaps(images, shape, recipe.flipAveraging, wanted));
  const { height: mapHeight, width: mapWidth } = chosen[0] ?? { height: 0, width: 0 };
  return {
    from,
    samples,
    classes,
    logits: logits.slice(0, samples * classes),
    plainLogits: recipe.flipAveraging ? plainLogits.slice(0, samples * classes) : new Float32Array(0),
    mapHeight,
    mapWidth,
    maps: paired(chosen, samples, mapHeight * mapWidth),
  };
}

type Maps = NonNullable<Prediction["maps"]>;

/** The index of the largest value, the first of equal ones. */
const largest = (row: Float32Array) => row.reduce((best, value, k) => (value > row[best]! ? k : best), 0);

/** Of [samples, height, width, classes] the map of one class of each sample: [samples, height, width]. */
function mapsOfClass({ values, height, width }: Maps, classes: number, wanted: Int32Array): Maps {
  const area = height * width;
  const chosen = new Float32Array(wanted.length * area);
  for (let at = 0; at < chosen.length; at++) chosen[at] = values[at * classes + wanted[Math.floor(at / area)]!]!;
  return { values: chosen, height, width };
}

/** Maps of the predicted and of the true classes as [samples, 2, height, width]. */
function paired(chosen: readonly (Maps | null)[], samples: number, area: number): Float32Array {
  const pairs = new Float32Array(samples * 2 * area);
  chosen.forEach((maps, which) => {
    for (let i = 0; maps !== null && i < samples; i++) {
      pairs.set(maps.values.subarray(i * area, (i + 1) * area), (i * 2 + which) * area);
    }
  });
  return pairs;
}
