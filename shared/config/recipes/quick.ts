import type { NamedRecipe } from "./recipe.ts";

/** The padded crop and flip of He et al. 2015, a short cosine. */
export const quick: NamedRecipe = {
  purpose: "a first result in minutes",
  settings: {
    recipe: "quick",
    model: { name: "alexnet", options: {}, statisticsMomentum: 0.9 },
    seed: 1,
    shards: 8,
    batch: 128,
    epochs: 6,
    peakRate: 0.12,
    warmup: 0.1,
    resolutions: [{ fromEpoch: 0, side: null }],
    optimizer: { kind: "sgd", momentum: 0.9, nesterov: true, weightDecay: 5e-4 },
    labelSmoothing: 0.1,
    ema: null,
    augmentation: {
      cropPadding: 12,
      border: "reflect",
      resizedCrop: null,
      flip: 0.5,
      mean: null,
      deviation: null,
      colour: null,
      cutout: 0,
    },
    precision: "float32",
    execution: "auto",
    wire: "float32",
    bucketBytes: 4 * 2 ** 20,
    flipAveraging: true,
  },
  expected: { alexnet: { accuracy: "60 %", cost: "2.5 minutes" } },
};
