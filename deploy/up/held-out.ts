import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { usage } from "../../shared/config/options.ts";
import type { Recipe } from "../../shared/config/schema.ts";
import { evaluatedOn } from "../../shared/data/training-part.ts";
import { LockstepError } from "../../shared/errors.ts";
import { decodePredictions, PREDICTIONS_FILE, type Predictions } from "../../worker/evaluation/predictions.ts";
import { readRunConfig } from "./prepare.ts";

/**
 * What a selection run says about the training images that it held out: a temperature for a run on all of them is fitted to
 * that.
 * @param directory of the selection run
 * @param recipe of the run whose report is scaled, with the part of the images that it is evaluated by
 * @throws LockstepError LS_HELD_OUT (exit code 2) where it held nothing out, has other data or classes, or was not evaluated;
 * LS_USAGE where the report is itself about held-out images, whose calibration would then be fitted to themselves
 */
export function heldOutPredictions(directory: string, given: Pick<Recipe, "data" | "trainingPart">): Predictions {
  const { data, trainingPart } = given;
  if (evaluatedOn(trainingPart) === "held-out") {
    throw usage(
      "--temperature-from is for a run that is evaluated on the test images; this one is evaluated on held-out ones.",
      "Leave it out, or leave --hold-out out.",
    );
  }
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
