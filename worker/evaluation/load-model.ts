import { existsSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type { LayersModel } from "@tensorflow/tfjs-layers";
import { z } from "zod";
import type { Config } from "../../shared/config/schema.ts";
import { LockstepError } from "../../shared/errors.ts";
import { exportedSlots } from "../../shared/model/export.ts";
import { type Layout, layoutOf } from "../../shared/model/layout.ts";
import { SafetensorsFile } from "../../shared/model/safetensors.ts";
import type { EvaluationConfig } from "../compute/evaluate.ts";
import { tensorsOf } from "../compute/model-tensors.ts";
import { buildModel } from "../compute/models/index.ts";
import { Predictor } from "../compute/predictor.ts";
import type { TensorFlow } from "../compute/tensorflow.ts";
import type { Checkpoint } from "./checkpoint.ts";

export interface LoadedModel {
  readonly predictor: Predictor;
  readonly recipe: EvaluationConfig["recipe"];
  /** Trainable values. */
  readonly parameters: number;
  /** Bytes of all exported tensors. */
  readonly weightBytes: number;
}

/** Bucket sizes do not matter outside of training; any will do for a layout. */
const BUCKET_BYTES = 4 << 20;

/**
 * Loads the weights that the run would export: the moving average where its recipe keeps one.
 * @throws LockstepError LS_EVALUATION_CHECKPOINT, LS_SAFETENSORS, LS_MODEL_*
 */
export async function loadModel(tf: TensorFlow, checkpoint: Checkpoint): Promise<LoadedModel> {
  const { weights, config } = checkpoint;
  return weights.kind === "step"
    ? loadStep(tf, weights.file, config!)
    : loadExported(tf, weights.directory, config?.recipe ?? { flipAveraging: false, seed: 0 });
}

async function loadStep(tf: TensorFlow, path: string, { recipe, place }: Config): Promise<LoadedModel> {
  const { height, width, channels, classes } = recipe.data;
  const model = await buildModel(tf, recipe.model, [height, width, channels], classes, place.modelFile);
  const layout = layoutFor(model);
  const file = await SafetensorsFile.open(path);
  try {
    const vector = await file.floats(recipe.ema === null ? "weights" : "ema");
    if (vector.length !== layout.stateFloats) {
      throw unfit(path, `it holds ${vector.length} values where the model has ${layout.stateFloats}`);
    }
    return loaded(tf, model, layout, vector, recipe);
  } finally {
    await file.close();
  }
}

const metadataSchema = z.object({
  classes: z.string().transform((text) => z.array(z.string()).parse(JSON.parse(text))),
  inputShape: z.string().transform((text) => z.tuple([z.number(), z.number(), z.number()]).parse(JSON.parse(text))),
  mean: z.string().transform((text) => z.array(z.number()).parse(JSON.parse(text))),
  deviation: z.string().transform((text) => z.array(z.number()).parse(JSON.parse(text))),
});

async function loadExported(
  tf: TensorFlow,
  directory: string,
  { flipAveraging, seed }: Pick<EvaluationConfig["recipe"], "flipAveraging" | "seed">,
): Promise<LoadedModel> {
  const path = join(directory, "model.safetensors");
  if (!existsSync(path)) throw unfit(directory, "model.safetensors is missing");
  const file = await SafetensorsFile.open(path);
  try {
    const facts = metadataSchema.safeParse(file.header.metadata);
    if (!facts.success) throw unfit(path, "its metadata does not say how images are prepared");
    const { classes, inputShape, mean, deviation } = facts.data;
    const model = await tf.loadLayersModel(pathToFileURL(join(directory, "model.json")).href);
    const layout = layoutFor(model);
    const vector = new Float32Array(layout.stateFloats);
    for (const { name, offset, size } of exportedSlots(layout)) {
      const values = await file.floats(name);
      if (values.length !== size) throw unfit(path, `tensor ${name} has ${values.length} values, not ${size}`);
      vector.set(values, offset);
    }
    return loaded(tf, model, layout, vector, {
      augmentation: {
        cropPadding: 0,
        border: "zero",
        resizedCrop: null,
        flip: 0,
        mean,
        deviation,
        colour: null,
        cutout: 0,
      },
      resolutions: [{ fromEpoch: 0, side: inputShape[0] }],
      seed,
      flipAveraging,
      data: { classes: classes.length },
    });
  } finally {
    await file.close();
  }
}

const layoutFor = (model: LayersModel): Layout =>
  layoutOf(
    tensorsOf(model).map(({ spec }) => spec),
    BUCKET_BYTES,
  );

const sum = (slots: readonly { readonly size: number }[]) => slots.reduce((total, { size }) => total + size, 0);

const loaded = (
  tf: TensorFlow,
  model: LayersModel,
  layout: Layout,
  vector: Float32Array,
  recipe: EvaluationConfig["recipe"],
): LoadedModel => ({
  predictor: new Predictor(tf, model, layout, vector),
  recipe,
  parameters: sum(layout.trainable),
  weightBytes: 4 * sum(exportedSlots(layout)),
});

const unfit = (path: string, why: string) =>
  new LockstepError("LS_EVALUATION_CHECKPOINT", `${path} cannot be evaluated: ${why}.`, {
    hint: "Give a run's directory, a model/ directory, or a step-<n>.safetensors file of a run.",
    exitCode: 2,
  });
