import type { LayersModel } from "@tensorflow/tfjs-layers";
import type { z } from "zod";
import { MODELS } from "../../../shared/config/models.ts";
import type { ModelConfig } from "../../../shared/config/schema.ts";
import { LockstepError } from "../../../shared/errors.ts";
import type { TensorFlow } from "../tensorflow.ts";
import { alexnet, alexnetOptions } from "./alexnet.ts";
import { resnet, resnetOptions } from "./resnet.ts";
import { resnet11, resnet11Options } from "./resnet11.ts";
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
  switch (config.name) {
    case "alexnet":
      return alexnet(tf, inputShape, classes, optionsOf(config, alexnetOptions));
    case "resnet":
      return resnet(tf, inputShape, classes, optionsOf(config, resnetOptions));
    case "resnet11":
      return resnet11(tf, inputShape, classes, optionsOf(config, resnet11Options));
    case "file":
      return userModel(tf, inputShape, classes, file, config.sourceSha256);
    default:
      throw new LockstepError("LS_MODEL_UNKNOWN", `There is no model "${config.name}".`, {
        hint: `Use ${MODELS.join(", ")} or the path of a JavaScript module (--model ./file.js).`,
        exitCode: 2,
      });
  }
}

function optionsOf<T>({ name, options }: Pick<ModelConfig, "name" | "options">, schema: z.ZodType<T>): T {
  const parsed = schema.safeParse(options);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const where = issue?.path.join(".") || "the options";
  throw new LockstepError("LS_MODEL_OPTIONS", `${name} does not take the options ${JSON.stringify(options)}.`, {
    hint: `${where}: ${issue?.message}.`,
    exitCode: 2,
  });
}
