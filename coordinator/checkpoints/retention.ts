import type { CheckpointRecord } from "../records/record.ts";

/**
 * Which checkpoints stay on the disk: the newest `keep` ones and the best, that with the lowest mean training loss over the
 * steps since the one before it (there is no other measure while a run trains; the test images are not looked at).
 * @param recorded oldest first
 */
export function retained(recorded: readonly CheckpointRecord[], keep: number): CheckpointRecord[] {
  const best = bestOf(recorded);
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
