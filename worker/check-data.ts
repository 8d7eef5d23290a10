import type { Config } from "../shared/config/schema.ts";
import { trainingSha256 } from "../shared/data/dataset.ts";
import { LockstepError } from "../shared/errors.ts";

/**
 * The run names its data set by a hash: a worker whose own copy is another one would compute other gradients.
 * @throws LockstepError LS_DATA_DIFFERS with both hashes
 */
export async function checkData({ recipe, place }: Config): Promise<void> {
  const ours = await trainingSha256(place.dataDirectory);
  if (ours === recipe.data.sha256) return;
  throw new LockstepError(
    "LS_DATA_DIFFERS",
    `The training images in ${place.dataDirectory} are ${ours.slice(0, 16)}, the run's are ${recipe.data.sha256.slice(0, 16)}.`,
    { hint: "Give the run's data set with --data.", exitCode: 3 },
  );
}
