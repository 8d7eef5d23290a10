import { evaluatedOn } from "../data/training-part.ts";
import type { Config, Recipe } from "./schema.ts";

/** States of how many steps a run validates, in how many fixed batches. */
export interface ValidationPlan {
  readonly everySteps: number;
  readonly batches: number;
  /** Validations without a better one after which the run ends at its best state; null: it goes to its last step. */
  readonly patience: number | null;
}

/**
 * How often a run validates, and images in a batch, as its config has it; null without. Where it may stop early that is part
 * of the recipe, since what comes out depends on it. Test images are never validated on.
 */
export function validationSettings({
  recipe,
  place,
}: Config): { readonly everySteps: number; readonly batch: number } | null {
  if (evaluatedOn(recipe.trainingPart) !== "held-out") return null;
  return recipe.earlyStopping ?? place.validation ?? null;
}

/** @param images that the run is evaluated on */
export function validationOf(config: Config, images: number): ValidationPlan | null {
  const settings = validationSettings(config);
  if (settings === null) return null;
  const { everySteps, batch } = settings;
  return { everySteps, batches: Math.ceil(images / batch), patience: config.recipe.earlyStopping?.patience ?? null };
}

/** Small, so that no step waits long for a worker that is in the middle of one. */
export const VALIDATION_BATCH = 25;
/** Validations of a run of which nobody says how many. */
const VALIDATIONS = 20;

/** Steps between validations. @param epochs that a person wants between them; undefined: nobody says */
export function validationInterval(
  epochs: number | undefined,
  { steps, stepsPerEpoch }: Pick<Recipe, "steps" | "stepsPerEpoch">,
): number {
  const wanted = epochs ?? Math.max(1, Math.round(steps / stepsPerEpoch / VALIDATIONS));
  return Math.max(1, Math.round(wanted * stepsPerEpoch));
}
