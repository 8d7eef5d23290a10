import type { CheckpointRecord } from "../records/record.ts";

/**
 * Which checkpoints stay on the disk: the newest `keep` ones and the best, that with the lowest mean training loss over the
 * steps since the one before it (there is no other measure while a run trains; the test images are not looked at).
 * Where a run may end at the state that was validated best, that one stays in its place.
 *
 * @param recorded oldest first
 * @param validated step of that state; null where there is none
 */
export function retained(
  recorded: readonly CheckpointRecord[],
  keep: number,
  validated: number | null = null,
): CheckpointRecord[] {
  const best = recorded.find(({ tip }) => tip.step === validated) ?? bestOf(recorded);
  const newest = recorded.slice(-keep);
  return best === null || newest.includes(best) ? newest : [best, ...newest];
}

/** Of equal ones the newest; null where none has a loss. */
export function bestOf(recorded: readonly CheckpointRecord[]): CheckpointRecord | null {
  let best: CheckpointRecord | null = null;
  for (const record of recorded) {
    if (record.loss !== null && (best?.loss == null || record.loss <= best.loss)) best = record;
  }
  return best;
}
