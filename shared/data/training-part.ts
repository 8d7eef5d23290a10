import { z } from "zod";
import { LockstepError } from "../errors.ts";
import { deal } from "../plan/deal.ts";
import { DOMAIN } from "../plan/random.ts";

/**
 * Which training images a run trains on, where these are not all: without one in so many, which are held out, stratified by
 * class, to choose by; or one of the folds of STL-10's protocol, counted from 1.
 */
export const trainingPartSchema = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("holdOut"), oneIn: z.number().int().min(2), seed: z.number().int().min(0) }),
  z.strictObject({ kind: z.literal("fold"), fold: z.number().int().positive() }),
]);

export type TrainingPart = z.infer<typeof trainingPartSchema>;

export type EvaluatedOn = "test" | "held-out";

/** Which images a run of this part is evaluated on. */
export const evaluatedOn = (part: TrainingPart | null | undefined): EvaluatedOn =>
  part?.kind === "holdOut" ? "held-out" : "test";

/** Places in train_X.bin, ascending for what is held out. */
export interface ChosenImages {
  readonly trained: Int32Array;
  /** Null where the test images are what a run is evaluated on. */
  readonly heldOut: Int32Array | null;
}

/**
 * @param labels of all training images
 * @throws LockstepError LS_DATA_PART where there is no such fold or nothing would be left
 */
export function chooseImages(
  part: TrainingPart,
  labels: ArrayLike<number>,
  folds: readonly (readonly number[])[],
): ChosenImages {
  if (part.kind === "fold") {
    const fold = folds[part.fold - 1];
    if (fold !== undefined) return { trained: Int32Array.from(fold), heldOut: null };
    const message = folds.length === 0 ? "The data set has no folds." : `There are folds 1 to ${folds.length} only.`;
    throw new LockstepError("LS_DATA_PART", message, { hint: "Folds stand in fold_indices.txt.", exitCode: 2 });
  }
  const [heldOut, ...rest] = deal(labels, part.oneIn, part.seed, DOMAIN.holdOut);
  const trained = Int32Array.from(rest.flatMap((ids) => [...ids])).sort();
  if (trained.length > 0 && heldOut!.length > 0) return { trained, heldOut: heldOut!.sort() };
  throw new LockstepError("LS_DATA_PART", `One in ${part.oneIn} of ${labels.length} images cannot be held out.`, {
    hint: "Give a larger --hold-out.",
    exitCode: 2,
  });
}
