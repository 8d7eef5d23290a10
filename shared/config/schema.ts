import { z } from "zod";
import { trainingPartSchema } from "../data/training-part.ts";
import { brokenRelations, DEFAULT_TIMING } from "./timing.ts";

/**
 * The resolved configuration of a run, as config.json holds it. The recipe part is everything that touches bits: it is
 * hashed, and a change forks a new run. The place part says where the run happens and may change on resume.
 */

/** Enough images for a clear answer about the maps, and a fraction of a minute of work. */
export const EXAMINED_IMAGES = 40;

const positive = z.number().int().positive();
const fraction = z.number().min(0).max(1);
const perChannel = z.array(z.number()).min(1);

/** Parameters of the augmentation of one training image; every draw is keyed by (seed, epoch, sample id). */
export const augmentationSchema = z.strictObject({
  /** Random crop after padding each side by this many pixels; 0 turns it off. */
  cropPadding: z.number().int().min(0),
  /** What lies outside the image. */
  border: z.enum(["zero", "reflect"]),
  /** Random resized crop (Inception style) instead of padding and cropping; null turns it off. */
  resizedCrop: z
    .strictObject({ area: z.tuple([z.number(), z.number()]), aspect: z.tuple([z.number(), z.number()]) })
    .nullable(),
  /** Probability of a horizontal flip. */
  flip: fraction,
  /** Per-channel normalisation of pixels in 0..1: (x - mean) / deviation. */
  mean: perChannel,
  deviation: perChannel,
  /** Colour jitter in normalised units; null turns it off. */
  colour: z
    .strictObject({
      contrast: z.tuple([z.number(), z.number()]),
      brightness: z.number().min(0),
      saturation: z.tuple([z.number(), z.number()]),
    })
    .nullable(),
  /** Side of the square that is set to zero, as a fraction of the image side; 0 turns it off. */
  cutout: fraction,
  /** So many random operations on the stored image, each of a random strength up to this one; missing without. */
  operations: z.strictObject({ count: z.number().int().min(1).max(4), strength: fraction }).optional(),
});

/** Images that are mixed with another one of their micro-batch, and their labels with them. */
export const mixingSchema = z.strictObject({
  /** Of an image being mixed at all. */
  probability: fraction,
  /** Of a mixed image getting a rectangle of the other one (CutMix) instead of a blend of both (mixup). */
  cutmix: fraction,
  /** The share of the other one is drawn from Beta(alpha, alpha). */
  alpha: z.number().min(0.05).max(1),
});

export const optimizerSchema = z.discriminatedUnion("kind", [
  z.strictObject({
    kind: z.literal("sgd"),
    momentum: fraction,
    nesterov: z.boolean(),
    /** On kernels only, added to the gradient. */
    weightDecay: z.number().min(0),
  }),
  z.strictObject({
    kind: z.literal("adamw"),
    beta1: fraction,
    beta2: fraction,
    epsilon: z.number().positive(),
    /** On kernels only, decoupled. */
    weightDecay: z.number().min(0),
  }),
]);

export const modelSchema = z.strictObject({
  /** `alexnet`, `resnet` or `file`. */
  name: z.string(),
  /** For `file`: SHA-256 of the module's source. Its path belongs to the place part. */
  sourceSha256: z.string().nullable(),
  /** Free options of the model's builder: widths, dropout rate and the like. */
  options: z.record(z.string(), z.union([z.number(), z.string(), z.boolean(), z.array(z.number())])),
  /** Momentum of the moving statistics: moving = momentum * moving + (1 - momentum) * batch. */
  statisticsMomentum: fraction,
});

export const recipeSchema = z.strictObject({
  format: z.literal(1),
  recipe: z.string(),
  model: modelSchema,
  data: z.strictObject({
    /** SHA-256 over the training files' bytes. */
    sha256: z.string(),
    /** That the run trains on. */
    trainImages: positive,
    classes: positive,
    channels: positive,
    height: positive,
    width: positive,
  }),
  /** Which training images; all where it is missing. */
  trainingPart: trainingPartSchema.optional(),
  seed: z.number().int().min(0).max(0xffffffff),
  /** V. */
  shards: positive,
  /** Planned global batch in samples; a step uses trainImages / stepsPerEpoch of them. */
  batch: positive,
  stepsPerEpoch: positive,
  /** Steps of the whole run. */
  steps: positive,
  /** Learning rate of every step, a float32 number; its length is `steps`. See learning-rates.ts. */
  learningRates: z.array(z.number().min(0)),
  /** Side of the training images by epoch, ascending `fromEpoch` starting at 0 (progressive resolution). */
  resolutions: z
    .array(z.strictObject({ fromEpoch: z.number().int().min(0), side: positive }))
    .min(1)
    .refine(
      (list) => list.every(({ fromEpoch }, i) => (i === 0 ? fromEpoch === 0 : fromEpoch > list[i - 1]!.fromEpoch)),
      {
        error: "fromEpoch must start at 0 and ascend",
      },
    ),
  optimizer: optimizerSchema,
  labelSmoothing: fraction,
  /** Decay of the exponential moving average min(decay, t/(t+20)); null without EMA. */
  ema: z.strictObject({ decay: fraction }).nullable(),
  augmentation: augmentationSchema,
  /** Missing where no images are mixed. */
  mixing: mixingSchema.optional(),
  /** Ends the run at its best validated state after so many validations without a better one; missing where it does not. */
  earlyStopping: z.strictObject({ everySteps: positive, batch: positive, patience: positive }).optional(),
  precision: z.enum(["float32", "bf16"]),
  execution: z.enum(["eager", "graph"]),
  /** Format of trainable buckets on the wire, rounded at every tree node. */
  wire: z.enum(["float32", "bf16"]),
  bucketBytes: positive,
  /** Gradients stay where they are computed and every step applies zeros: the compute ceiling, to measure against. */
  exchange: z.literal("none").optional(),
  /** Averages predictions over the image and its mirror image in evaluation. */
  flipAveraging: z.boolean(),
});

const addedLater = (name: keyof typeof DEFAULT_TIMING) => positive.default(DEFAULT_TIMING[name]);

/** Milliseconds, all but stepBudgetFactor; TIMING_MEANINGS says what each bounds. Those that older runs lack have defaults. */
export const timingSchema = z
  .strictObject({
    heartbeatInterval: positive,
    heartbeatTimeout: positive,
    redialFirst: positive,
    redialMax: positive,
    levelTimeout: positive,
    stepBudgetFactor: positive,
    stepBudgetFloor: positive,
    firstStepBudget: positive,
    grace: positive,
    answerTimeout: addedLater("answerTimeout"),
    checkpointTimeout: addedLater("checkpointTimeout"),
    leaveTimeout: addedLater("leaveTimeout"),
    quarantineFirst: addedLater("quarantineFirst"),
    quarantineMax: addedLater("quarantineMax"),
    slowRetry: addedLater("slowRetry"),
    sayAgain: addedLater("sayAgain"),
    maxWait: positive,
  })
  .superRefine((timing, context) => {
    for (const message of brokenRelations(timing)) context.addIssue({ code: "custom", message });
  });

/** When shards are moved to faster workers. */
export const balanceSchema = z.strictObject({
  /** Share of the predicted step time that must be gained; 1 never moves a shard. */
  gain: fraction,
  /** For how many steps in a row it must be predicted; doubled for each move of late. */
  steps: positive,
});

export const DEFAULT_BALANCE: Balance = { gain: 0.15, steps: 20 };

export const placeSchema = z.strictObject({
  workers: positive,
  minWorkers: positive,
  dataDirectory: z.string(),
  outDirectory: z.string(),
  modelFile: z.string().nullable(),
  listen: z.string(),
  /** null: evaluation is skipped (`--no-eval`). */
  evaluation: z
    .strictObject({
      batch: positive,
      examined: z
        .number()
        .int()
        .min(0)
        .describe("Test images whose maps are examined for truth")
        .default(EXAMINED_IMAGES),
    })
    .nullable(),
  /** Every so many steps the state is validated on the held-out images, in batches of so many; missing without validation. */
  validation: z.strictObject({ everySteps: positive, batch: positive }).optional(),
  /** Directory of the selection run whose held-out images the temperature is fitted to. */
  temperatureFrom: z.string().optional(),
  /** File that a trace of all workers is written to at the end, and how many of their newest steps it shows. */
  trace: z.strictObject({ file: z.string(), steps: positive }).optional(),
  checkpoint: z.strictObject({ everySteps: positive, keep: positive }),
  timing: timingSchema,
  balance: balanceSchema.default(DEFAULT_BALANCE),
  /** URL of the NATS server; null without one. */
  nats: z.string().nullable(),
});

/** The run whose state a forked run began with: its id, how many steps it had taken, and the lineage of that state. */
export const parentSchema = z.strictObject({
  run: z.string(),
  step: z.number().int().min(0),
  lineage: z.string().regex(/^[0-9a-f]{64}$/),
});

export const configSchema = z
  .strictObject({ runId: z.string(), parent: parentSchema.optional(), recipe: recipeSchema, place: placeSchema })
  .refine(({ recipe }) => recipe.learningRates.length === recipe.steps, {
    path: ["recipe", "learningRates"],
    error: "there must be one learning rate for each step",
  });

export type Augmentation = z.infer<typeof augmentationSchema>;
export type ImageOperations = NonNullable<Augmentation["operations"]>;
export type Mixing = z.infer<typeof mixingSchema>;
export type OptimizerConfig = z.infer<typeof optimizerSchema>;
export type ModelConfig = z.infer<typeof modelSchema>;
export type Recipe = z.infer<typeof recipeSchema>;
export type Balance = z.infer<typeof balanceSchema>;
export type Timing = z.infer<typeof timingSchema>;
export type Place = z.infer<typeof placeSchema>;
export type Parent = z.infer<typeof parentSchema>;
export type Config = z.infer<typeof configSchema>;
