import type { Config } from "../../shared/config/schema.ts";
import { LockstepError } from "../../shared/errors.ts";
import { layoutOf } from "../../shared/model/layout.ts";
import { SafetensorsFile } from "../../shared/model/safetensors.ts";
import { evaluationSide } from "./evaluate.ts";
import { type ExportedModel, exportModel } from "./export.ts";
import { tensorsOf } from "./model-tensors.ts";
import { buildModel } from "./models/index.ts";
import { type MapMethod, mapMethodOf } from "./predictor.ts";
import type { TensorFlow } from "./tensorflow.ts";

export interface ExportedCheckpoint extends ExportedModel {
  /** How class activation maps of this model are made; null where they cannot be. */
  readonly mapMethod: MapMethod;
}

/**
 * Exports the model of a checkpoint file: the moving average of the weights where the recipe keeps one, else the weights.
 * @param classNames in the order of the labels
 * @throws LockstepError LS_SAFETENSORS where the file is not sound, LS_CHECKPOINT_MODEL where it is another model's
 */
export async function exportCheckpoint(
  tf: TensorFlow,
  { recipe, place, runId }: Config,
  classNames: readonly string[],
  file: string,
  directory: string,
): Promise<ExportedCheckpoint> {
  const { height, width, channels, classes } = recipe.data;
  const model = await buildModel(tf, recipe.model, [height, width, channels], classes, place.modelFile);
  const specs = tensorsOf(model).map(({ spec }) => spec);
  const layout = layoutOf(specs, recipe.bucketBytes);
  const checkpoint = await SafetensorsFile.open(file);
  try {
    const vector = await checkpoint.floats(recipe.ema === null ? "weights" : "ema");
    if (vector.length !== layout.stateFloats) {
      throw new LockstepError(
        "LS_CHECKPOINT_MODEL",
        `${file} holds ${vector.length} weights; the config's model has ${layout.stateFloats}.`,
        { hint: "Use the config.json of the run that wrote it." },
      );
    }
    const side = evaluationSide(recipe);
    const { step, lineage } = checkpoint.header.metadata;
    const exported = await exportModel(model, layout, vector, directory, {
      model: recipe.model.name,
      classNames,
      inputShape: [side, side, channels],
      mean: recipe.augmentation.mean,
      deviation: recipe.augmentation.deviation,
      metadata: {
        run: runId,
        recipe: recipe.recipe,
        step: step ?? "",
        lineage: lineage ?? "",
        weights: recipe.ema === null ? "weights" : "moving average",
      },
    });
    return { ...exported, mapMethod: mapMethodOf(tf, model) };
  } finally {
    await checkpoint.close();
    model.dispose();
  }
}
