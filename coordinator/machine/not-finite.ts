import { finish } from "./finish.ts";
import type { Turn } from "./state.ts";

/** Steps in a row without a finite loss and gradient after which a run is given up. */
export const MOST_SKIPPED = 10;

/**
 * A step whose loss or gradient is not finite leaves weights and slots as they are; the run goes on, since the next batch
 * may be sound. After MOST_SKIPPED of them in a row nothing will change any more: the run ends at the last checkpoint before
 * them. True where it did.
 */
export function endIfNotFinite(turn: Turn): boolean {
  const { ledger, skipped } = turn.state;
  if (ledger === null || skipped < MOST_SKIPPED) return false;
  const first = ledger.step - skipped;
  turn.actions.push({ kind: "retreat", before: first, reason: "steps that are not finite" });
  finish(turn, {
    kind: "failed",
    code: "LS_NOT_FINITE",
    message:
      `Loss or gradient were not finite in ${skipped} steps in a row, ${first} to ${ledger.step - 1}, and none of them ` +
      "was applied. Try a smaller learning rate: npx lockstep resume RUN --fork --lr X",
  });
  return true;
}
