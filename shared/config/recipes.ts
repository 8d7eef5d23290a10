import type { Settings } from "./settings.ts";

/**
 * Recipes as plain data, one for each name that --recipe takes. Expected accuracy and cost stand in the README, with the
 * command that measured them.
 */
export const RECIPES: Readonly<Record<string, Settings>> = {
  /** Minutes on two cores: the padded crop and flip of He et al. 2015, a short cosine. */
  quick: {
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
};

export const DEFAULT_RECIPE = "quick";
