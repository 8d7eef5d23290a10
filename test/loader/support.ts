import type { Recipe } from "../../shared/config/schema.ts";
import { LoaderPool, type LoaderPoolOptions } from "../../worker/loader/pool.ts";
import { slotLayout } from "../../worker/loader/slot.ts";
import { temporary, writeSmallSet } from "../data/support.ts";

export const SHAPE = { channels: 3, height: 12, width: 12 };
export const IMAGES = 53;

/** 53 images of 12x12 in 4 classes. */
export const smallData = (): string =>
  writeSmallSet(temporary("loader"), {
    shape: SHAPE,
    train: Array.from({ length: IMAGES }, (_, i) => (i % 4) + 1),
    test: [1, 2, 3, 4],
  });

/** A recipe over 4 shards and 3 steps an epoch: micro-batches of 4 and 5, at 8 pixels in epoch 0 and 12 afterwards. */
export function smallRecipe(changes: Partial<Recipe> = {}): Recipe {
  return {
    format: 1,
    recipe: "test",
    model: { name: "alexnet", sourceSha256: null, options: {}, statisticsMomentum: 0.9 },
    data: { sha256: "", trainImages: IMAGES, classes: 4, ...SHAPE },
    seed: 5,
    shards: 4,
    batch: 18,
    stepsPerEpoch: 3,
    steps: 30,
    learningRates: [],
    resolutions: [
      { fromEpoch: 0, side: 8 },
      { fromEpoch: 1, side: 12 },
    ],
    optimizer: { kind: "sgd", momentum: 0.9, nesterov: true, weightDecay: 0 },
    labelSmoothing: 0,
    ema: null,
    augmentation: {
      cropPadding: 0,
      border: "reflect",
      resizedCrop: { area: [0.5, 1], aspect: [0.75, 4 / 3] },
      flip: 0.5,
      mean: [0.45, 0.44, 0.41],
      deviation: [0.26, 0.26, 0.27],
      colour: { contrast: [0.7, 1.3], brightness: 0.3, saturation: [0.6, 1.4] },
      cutout: 0.3,
    },
    precision: "float32",
    execution: "eager",
    wire: "float32",
    bucketBytes: 4096,
    flipAveraging: true,
    ...changes,
  };
}

/** A pool over a new shared memory with `count` slots. */
export function poolOf(options: Partial<LoaderPoolOptions> & { count?: number } = {}) {
  const recipe = options.recipe ?? smallRecipe();
  const { bytes } = slotLayout(recipe);
  const memory = options.memory ?? new WebAssembly.Memory({ initial: 64, maximum: 128, shared: true });
  const slots = Array.from({ length: options.count ?? 3 }, (_, i) => 4096 + i * bytes);
  const dataDirectory = options.dataDirectory ?? smallData();
  const pool = new LoaderPool({ memory, slots, dataDirectory, recipe, threads: 1, longestWait: 20_000, ...options });
  return { pool, memory, recipe, dataDirectory };
}
