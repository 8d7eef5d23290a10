import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Recipe } from "../../shared/config/schema.ts";
import { LockstepError } from "../../shared/errors.ts";
import { decodePredictions, PREDICTIONS_FILE, type Predictions } from "../../worker/evaluation/predictions.ts";
import { readRunConfig } from "./prepare.ts";

/**
 * What a selection run says about the training images that it held out: a temperature for a run on all of them is fitted to
 * that.
 * @param directory of the selection run
 * @throws LockstepError LS_HELD_OUT (exit code 2) where it held nothing out, has other data or classes, or was not evaluated
 */
export function heldOutPredictions(directory: string, { data }: Pick<Recipe, "data">): Predictions {
  const { recipe } = readRunConfig(directory);
  const file = join(directory, "report", PREDICTIONS_FILE);
  const problem =
    recipe.trainingPart?.kind !== "holdOut"
      ? "held no training images out"
      : recipe.data.sha256 !== data.sha256 || recipe.data.classes !== data.classes
        ? "has other training data"
        : existsSync(file)
          ? null
          : "was not evaluated yet";
  if (problem === null) return decodePredictions(new Uint8Array(readFileSync(file)), file);
  throw new LockstepError("LS_HELD_OUT", `The run in ${directory} ${problem}, so it gives no temperature.`, {
    hint: "Give a run that was made with --hold-out, on the same data, and has ended.",
    exitCode: 2,
  });
}
