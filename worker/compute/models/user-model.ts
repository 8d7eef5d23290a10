import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import type { LayersModel } from "@tensorflow/tfjs-layers";
import { LockstepError } from "../../../shared/errors.ts";
import { type Layer, layersOf } from "../model-tensors.ts";
import type { TensorFlow } from "../tensorflow.ts";

/** Shape of one image, [height, width, channels]. */
export type InputShape = readonly [number, number, number];

/**
 * What a module given by `--model ./file.js` exports by default. It must make the same model in every worker; initial
 * weights are drawn by Lockstep as the layers' initializers say.
 */
export type ModelFunction = (
  tf: TensorFlow,
  inputShape: InputShape,
  classes: number,
) => LayersModel | Promise<LayersModel>;

const wrong = (message: string, cause?: unknown) =>
  new LockstepError("LS_MODEL_FILE", message, {
    hint: "Export a default function (tf, inputShape, classes) that returns a tf.layers model ending in logits.",
    exitCode: 2,
    cause,
  });

const unsupported = (layer: Layer, what: string, hint: string) =>
  new LockstepError("LS_MODEL_LAYER", `Layer ${layer.name} (${layer.getClassName()}) ${what}.`, { hint, exitCode: 2 });

/**
 * Loads a user's module and builds its model.
 * @param sha256 of the module's source, as the run knows it; null to take any
 * @throws LockstepError LS_MODEL_FILE with what is wrong in the module, LS_MODEL_LAYER with the layer that cannot be
 * trained to the same bits everywhere
 */
export async function userModel(
  tf: TensorFlow,
  inputShape: InputShape,
  classes: number,
  file: string | null,
  sha256: string | null,
): Promise<LayersModel> {
  const make = await load(file, sha256);
  let model: LayersModel;
  try {
    model = await make(tf, inputShape, classes);
  } catch (cause) {
    throw wrong(`The function of ${file} failed: ${(cause as Error).message}.`, cause);
  }
  checkModel(model, inputShape, classes);
  return model;
}

async function load(file: string | null, sha256: string | null): Promise<ModelFunction> {
  if (file === null || !existsSync(file)) throw wrong(`The model file ${file ?? "(none)"} does not exist.`);
  if (sha256 !== null && createHash("sha256").update(readFileSync(file)).digest("hex") !== sha256) {
    throw wrong(`${file} is not the file that this run was started with.`);
  }
  let make: unknown;
  try {
    make = ((await import(pathToFileURL(file).href)) as { default?: unknown }).default;
  } catch (cause) {
    throw wrong(`${file} does not load: ${(cause as Error).message}.`, cause);
  }
  if (typeof make !== "function") throw wrong(`${file} has no default export that is a function.`);
  return make as ModelFunction;
}

/** Whether the model takes such images, gives such logits, and holds only layers that can be trained. */
export function checkModel(model: LayersModel, inputShape: InputShape, classes: number): void {
  if (typeof model?.predict !== "function" || !Array.isArray(model.layers)) {
    throw wrong("The function did not return a tf.layers model.");
  }
  if (model.inputs.length !== 1 || model.outputs.length !== 1) {
    throw wrong(`The model has ${model.inputs.length} inputs and ${model.outputs.length} outputs; one each is needed.`);
  }
  const inputs = model.inputs[0]!.shape.slice(1);
  const fits = inputs.length === 3 && inputs.every((extent, i) => extent === null || extent === inputShape[i]);
  if (!fits) throw wrong(`The model's input has the shape [${show(inputs)}]; images are [${inputShape}].`);
  const outputs = model.outputs[0]!.shape;
  if (outputs.length !== 2 || outputs[1] !== classes) {
    throw wrong(`The model's output has the shape [${show(outputs)}]; [batch, ${classes}] is needed.`);
  }
  const layers = layersOf(model);
  const last = layers.at(-1)!;
  if (last.getClassName() === "Softmax" || configOf(last).activation === "softmax") {
    throw wrong("The model ends in softmax; the loss wants logits.");
  }
  for (const layer of layers) checkLayer(layer);
}

const show = (shape: readonly (number | null)[]) => shape.map((extent) => extent ?? "any").join(",");
const configOf = (layer: Layer) => layer.getConfig() as Record<string, unknown>;

const RANDOM = ["GaussianNoise", "GaussianDropout", "AlphaDropout", "SpatialDropout1D", "RandomWidth"];
/** They hold layers that cannot be reached one by one, or keep states of their own. */
const WRAPPING = [
  "TimeDistributed",
  "Bidirectional",
  "RNN",
  "LSTM",
  "GRU",
  "SimpleRNN",
  "StackedRNNCells",
  "ConvLSTM2D",
];

function checkLayer(layer: Layer): void {
  const kind = layer.getClassName();
  const config = configOf(layer);
  if (RANDOM.includes(kind)) {
    const hint = "Its bits would depend on the worker. Use Dropout, or augment the data.";
    throw unsupported(layer, "draws random numbers of its own", hint);
  }
  if (WRAPPING.includes(kind)) throw unsupported(layer, "is not supported", "Use layers for images.");
  if (layer.stateful) throw unsupported(layer, "keeps a state between batches", "Use stateful: false.");
  if (kind === "Dropout" && (config.noiseShape ?? null) !== null) {
    throw unsupported(layer, "has a noiseShape", "Leave it out; masks are drawn for every value.");
  }
  if (kind === "Dropout" && !(Number(config.rate) < 1)) {
    throw unsupported(layer, "drops everything", "Its rate must be below 1.");
  }
  if (kind === "BatchNormalization") checkBatchNorm(layer, config);
  for (const [key, value] of Object.entries(config)) {
    if (value === null || value === undefined || typeof value !== "object") continue;
    if (key.endsWith("Regularizer")) {
      throw unsupported(layer, `has a ${key}`, "Weight decay is a setting of the recipe's optimizer.");
    }
    if (key.endsWith("Constraint")) {
      throw unsupported(layer, `has a ${key}`, "The update knows no constraints; normalise in the model instead.");
    }
  }
  if (!layer.trainable && layer.weights.length > 0)
    throw unsupported(layer, "is frozen", "All weights are trained; leave trainable at true.");
}

function checkBatchNorm(layer: Layer, { axis }: Record<string, unknown>): void {
  const nodes = layer.inboundNodes;
  if (nodes.length > 1) throw unsupported(layer, "is used twice", "Its statistics would mix; use two layers.");
  const rank = (nodes[0]!.inputShapes[0] as number[]).length;
  if (axis !== -1 && axis !== rank - 1) {
    throw unsupported(layer, `normalises axis ${axis}`, `Only the last axis (${rank - 1}) is supported.`);
  }
}
