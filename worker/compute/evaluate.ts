import type { Recipe } from "../../shared/config/schema.ts";
import type { Dataset } from "../../shared/data/dataset.ts";
import { Augmenter } from "../loader/augment.ts";
import type { EvaluatedBatch } from "./messages.ts";
import type { Predictor } from "./predictor.ts";

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
  const { logits, maps } = predictor.run(images, [size, side, side, channels], recipe.flipAveraging);
  const classes = recipe.data.classes;
  const area = maps === null ? 0 : maps.height * maps.width;
  const chosen = new Float32Array(samples * 2 * area);
  if (maps !== null) {
    for (let i = 0; i < samples; i++) {
      const row = logits.subarray(i * classes, (i + 1) * classes);
      const predicted = row.reduce((best, value, k) => (value > row[best]! ? k : best), 0);
      [predicted, dataset.test.labels[from + i]!].forEach((label, which) => {
        for (let p = 0; p < area; p++) {
          chosen[(i * 2 + which) * area + p] = maps.values[(i * area + p) * classes + label]!;
        }
      });
    }
  }
  return {
    from,
    samples,
    classes,
    logits: logits.slice(0, samples * classes),
    mapHeight: maps?.height ?? 0,
    mapWidth: maps?.width ?? 0,
    maps: chosen,
  };
}
