import type { LayersModel } from "@tensorflow/tfjs-layers";
import type { ModelConfig } from "../../../shared/config/schema.ts";
import { LockstepError } from "../../../shared/errors.ts";
import type { TensorFlow } from "../tensorflow.ts";
import { alexnet } from "./alexnet.ts";
import { resnet } from "./resnet.ts";
import { type InputShape, userModel } from "./user-model.ts";

export type { InputShape, ModelFunction } from "./user-model.ts";

/**
 * Builds the model that a config names.
 * @param inputShape of the stored images; training may show them at other sizes
 * @param file path of the user's module where the name is `file`
 * @throws LockstepError LS_MODEL_UNKNOWN, LS_MODEL_OPTIONS, or what userModel throws
 */
export async function buildModel(
  tf: TensorFlow,
  config: Pick<ModelConfig, "name" | "options" | "sourceSha256">,
  inputShape: InputShape,
  classes: number,
  file: string | null,
): Promise<LayersModel> {
  const options = config.options as Record<string, never>;
  switch (config.name) {
    case "alexnet":
      return built(config, () => alexnet(tf, inputShape, classes, options));
    case "resnet":
      return built(config, () => resnet(tf, inputShape, classes, options));
    case "file":
      return userModel(tf, inputShape, classes, file, config.sourceSha256);
    default:
      throw new LockstepError("LS_MODEL_UNKNOWN", `There is no model "${config.name}".`, {
        hint: "Use alexnet, resnet or the path of a JavaScript module (--model ./file.js).",
        exitCode: 2,
      });
  }
}

function built({ name, options }: Pick<ModelConfig, "name" | "options">, make: () => LayersModel): LayersModel {
  try {
    return make();
  } catch (cause) {
    const given = JSON.stringify(options);
    throw new LockstepError("LS_MODEL_OPTIONS", `${name} cannot be built with the options ${given}.`, {
      hint: (cause as Error).message,
      exitCode: 2,
      cause,
    });
  }
}
