import { membersOf } from "./change.ts";
import { finish } from "./finish.ts";
import type { Turn } from "./state.ts";

/** Steps that members report and whose predecessors nobody does. */
export interface Gap {
  readonly since: number;
  /** The first step that was reported. */
  readonly step: number;
}

/**
 * Members keep what the coordinator has not recorded, and say it again after a redial; a gap that lasts means that the
 * coordinator has forgotten what it had recorded: its records are an older copy. The steps between are lost for them, whatever
 * the members do. True where the run ended for that.
 */
export function endIfBehind(turn: Turn): boolean {
  const { gap, ledger, settings } = turn.state;
  if (gap === null || turn.now - gap.since <= settings.timing.answerTimeout || !isConfirmed(turn, gap)) return false;
  finish(turn, {
    kind: "failed",
    code: "LS_RECORDS_BEHIND",
    message:
      `The workers have come to step ${gap.step}, and the records end at step ${ledger?.step ?? 0}: they are an older copy ` +
      "than those with which these workers began. Resume the run: it goes on with the newest checkpoint of these records.",
  });
  return true;
}

/** One worker reports for all, and may be mistaken: what most members say of themselves tells whether they have come so far. */
function isConfirmed({ state }: Turn, { step }: Gap): boolean {
  const heard = [...membersOf(state)].flatMap((incarnation) => state.workers.get(incarnation)?.progress ?? []);
  return heard.filter((progress) => progress.step > step).length * 2 > heard.length;
}
