import { z } from "zod";
import { augmentationSchema, mixingSchema, modelSchema, optimizerSchema } from "./schema.ts";

const fromEpoch = z.number().int().min(0);

/**
 * What a recipe decides before it meets a data set: plain data, from which resolveConfig derives the recipe part of
 * config.json. null stands for "as the data set has it".
 */
export const settingsSchema = z.strictObject({
  recipe: z.string().min(1),
  model: modelSchema.omit({ sourceSha256: true }),
  seed: z.number().int().min(0).max(0xffffffff),
  shards: z.number().int().positive(),
  /** Global batch for which `peakRate` was found. Another batch scales the rate with it (Goyal et al. 2017). */
  batch: z.number().int().positive(),
  epochs: z.number().positive(),
  peakRate: z.number().positive(),
  /** Part of all steps that the linear warm-up takes. */
  warmup: z.number().min(0).max(1),
  /**
   * `side` null: the side of the stored images; `part`: about that part of it. `fromEpoch` is meant for a run of `epochs`
   * and moves with the length of the run.
   */
  resolutions: z
    .array(
      z.union([
        z.strictObject({ fromEpoch, side: z.number().int().positive().nullable() }),
        z.strictObject({ fromEpoch, part: z.number().positive().max(1) }),
      ]),
    )
    .min(1),
  optimizer: optimizerSchema,
  labelSmoothing: z.number().min(0).max(1),
  ema: z.strictObject({ decay: z.number().min(0).max(1) }).nullable(),
  /** mean and deviation null: those of the training images. */
  augmentation: augmentationSchema.extend({
    mean: augmentationSchema.shape.mean.nullable(),
    deviation: augmentationSchema.shape.deviation.nullable(),
  }),
  mixing: mixingSchema.optional(),
  /** `auto`: the fastest that the machine at hand and the model support. */
  precision: z.enum(["auto", "float32", "bf16"]),
  execution: z.enum(["auto", "eager", "graph"]),
  wire: z.enum(["float32", "bf16"]),
  bucketBytes: z.number().int().positive(),
  flipAveraging: z.boolean(),
});

export type Settings = z.infer<typeof settingsSchema>;
