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
  const { from, samples, images, shape } = batchImages(dataset, recipe, batch, size);
  const flip = recipe.flipAveraging;
  const prediction = predictor.run(images, shape, flip);
  const { logits, plainLogits } = prediction;
  const classes = recipe.data.classes;
  const predicted = largestOfRows(logits, classes);
  const actual = Int32Array.from({ length: size }, (_, i) => dataset.test.labels[from + (i < samples ? i : 0)]!);
  const chosen = [predicted, actual].map((wanted) => predictor.mapsOfClasses(prediction, images, shape, flip, wanted));
  const { height: mapHeight, width: mapWidth } = chosen[0] ?? { height: 0, width: 0 };
  return {
    from,
    samples,
    classes,
    logits: logits.slice(0, samples * classes),
    plainLogits: flip ? plainLogits.slice(0, samples * classes) : new Float32Array(0),
    mapHeight,
    mapWidth,
    maps: paired(chosen, samples, mapHeight * mapWidth),
  };
}

/** The images of a batch as the model is given them: [size, side, side, channels], of which the first `samples` count. */
export function batchImages(dataset: Dataset, recipe: EvaluationConfig["recipe"], batch: number, size: number) {
  const { channels, height, width } = dataset.shape;
  const side = evaluationSide(recipe);
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
  return { from, samples, images, shape: [size, side, side, channels] as const };
}

type Maps = NonNullable<Prediction["maps"]>;

/** Height and width of the images that a model is evaluated on: the largest that it was trained on. */
export const evaluationSide = ({ resolutions }: Pick<Recipe, "resolutions">): number =>
  resolutions.reduce((most, { side }) => Math.max(most, side), 0);

/** The class with the largest logit of each row, the first of equal ones. */
export function largestOfRows(logits: Float32Array, classes: number): Int32Array {
  return Int32Array.from({ length: logits.length / classes }, (_, i) =>
    logits.subarray(i * classes, (i + 1) * classes).reduce((best, value, k, row) => (value > row[best]! ? k : best), 0),
  );
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
