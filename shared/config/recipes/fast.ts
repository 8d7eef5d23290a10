import type { NamedRecipe } from "./recipe.ts";

/**
 * Two thirds of the epochs at two thirds of the side, which cost less than half, then full images; shards of 16 images for
 * batch norm.
 */
export const fast: NamedRecipe = {
  purpose: "82 % in as little time as possible",
  settings: {
    recipe: "fast",
    model: { name: "resnet11", options: {}, statisticsMomentum: 0.9 },
    seed: 1,
    shards: 4,
    batch: 64,
    epochs: 72,
    peakRate: 0.08,
    warmup: 0.1,
    resolutions: [
      { fromEpoch: 0, part: 2 / 3 },
      { fromEpoch: 48, side: null },
    ],
    optimizer: { kind: "sgd", momentum: 0.9, nesterov: true, weightDecay: 5e-4 },
    labelSmoothing: 0.1,
    ema: { decay: 0.998 },
    augmentation: {
      cropPadding: 0,
      border: "reflect",
      resizedCrop: { area: [0.5, 1], aspect: [3 / 4, 4 / 3] },
      flip: 0.5,
      mean: null,
      deviation: null,
      colour: { contrast: [0.7, 1.3], brightness: 0.3, saturation: [0.6, 1.4] },
      cutout: 1 / 3,
    },
    precision: "auto",
    execution: "auto",
    wire: "float32",
    bucketBytes: 4 * 2 ** 20,
    flipAveraging: true,
  },
  expected: { resnet11: { accuracy: "82 to 84 %", cost: "about 20 minutes" } },
};
