import { evaluatedOn } from "../data/training-part.ts";
import type { Config } from "./schema.ts";

/** States of how many steps a run validates, in how many fixed batches. */
export interface ValidationPlan {
  readonly everySteps: number;
  readonly batches: number;
}

/**
 * Validation while training goes on, as a run's config has it; null without. Test images are never validated on.
 * @param images that the run is evaluated on
 */
export function validationOf({ recipe, place }: Config, images: number): ValidationPlan | null {
  const { validation } = place;
  if (validation === undefined || evaluatedOn(recipe.trainingPart) !== "held-out") return null;
  return { everySteps: validation.everySteps, batches: Math.ceil(images / validation.batch) };
}
