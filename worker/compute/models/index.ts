import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import type { LayersModel } from "@tensorflow/tfjs-layers";
import type { ModelConfig } from "../../../shared/config/schema.ts";
import { LockstepError } from "../../../shared/errors.ts";
import type { TensorFlow } from "../tensorflow.ts";
import { alexnet } from "./alexnet.ts";
import { resnet } from "./resnet.ts";

/** Shape of one image, [height, width, channels]. */
export type InputShape = readonly [number, number, number];

/** What a module given by `--model ./file.js` exports by default. */
export type ModelFunction = (tf: TensorFlow, inputShape: InputShape, classes: number) => LayersModel;

/**
 * Builds the model that a config names.
 * @param file path of the user's module where the name is `file`
 * @throws LockstepError LS_MODEL_UNKNOWN, or LS_MODEL_FILE with what is wrong in the user's module
 */
export async function buildModel(
  tf: TensorFlow,
  config: ModelConfig,
  inputShape: InputShape,
  classes: number,
  file: string | null,
): Promise<LayersModel> {
  const options = config.options as Record<string, never>;
  switch (config.name) {
    case "alexnet":
      return alexnet(tf, inputShape, classes, options);
    case "resnet":
      return resnet(tf, inputShape, classes, options);
    case "file":
      return checked(await userModel(tf, inputShape, classes, file, config.sourceSha256), inputShape, classes);
    default:
      throw new LockstepError("LS_MODEL_UNKNOWN", `There is no model "${config.name}".`, {
        hint: "Use alexnet, resnet or the path of a JavaScript module (--model ./file.js).",
        exitCode: 2,
      });
  }
}

const wrong = (message: string, cause?: unknown) =>
  new LockstepError("LS_MODEL_FILE", message, {
    hint: "Export a default function (tf, inputShape, classes) that returns a tf.layers model ending in logits.",
    exitCode: 2,
    cause,
  });

async function userModel(tf: TensorFlow, shape: InputShape, classes: number, file: string | null, sha256: string | null) {
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
  try {
    return (await (make as ModelFunction)(tf, shape, classes)) as LayersModel;
  } catch (cause) {
    throw wrong(`The function of ${file} failed: ${(cause as Error).message}.`, cause);
  }
}

function checked(model: LayersModel, shape: InputShape, classes: number): LayersModel {
  if (typeof model?.predict !== "function" || !Array.isArray(model.layers)) throw wrong("The function did not return a tf.layers model.");
  if (model.inputs.length !== 1 || model.outputs.length !== 1) throw wrong("The model must have one input and one output.");
  const outputs = model.outputs[0]!.shape;
  if (outputs.length !== 2 || outputs[1] !== classes) {
    throw wrong(`The model's output has the shape [${outputs}]; [batch, ${classes}] is needed.`);
  }
  const inputs = model.inputs[0]!.shape.slice(1);
  const fits = inputs.length === 3 && inputs.every((extent, i) => extent === null || extent === shape[i]);
  if (!fits) throw wrong(`The model's input has the shape [${inputs}]; images are [${shape}].`);
  const last = model.layers.at(-1)!.getConfig() as { activation?: string };
  if (last.activation === "softmax") throw wrong("The model ends in softmax; the loss wants logits.");
  const stateful = model.layers.find((layer) => layer.stateful);
  if (stateful !== undefined) throw wrong(`Layer ${stateful.name} keeps a state between batches, which is not supported.`);
  return model;
}
