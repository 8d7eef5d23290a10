import { LockstepError } from "../../shared/errors.ts";
import type { ModelFacts } from "../../shared/protocol/messages.ts";
import type { Tip, View } from "../../shared/protocol/view.ts";
import { type BestState, isBetter } from "../machine/best.ts";
import type { History } from "../machine/state.ts";
import { type CheckpointRecord, type DurableRecord, type RecordOf, viewOf } from "./record.ts";

/** What a new reign starts from. Its size does not grow with the number of steps. */
export interface FoldedHistory extends History {
  /** Recorded checkpoints of the surviving line, oldest first. */
  readonly checkpoints: readonly CheckpointRecord[];
  /** Mean loss of the steps behind the last checkpoint is summed from here. */
  readonly sinceCheckpoint: LossSum;
  readonly facts: ModelFacts | null;
  /** A stop was asked for and has not ended yet. */
  readonly stopping: string | null;
  readonly ended: RecordOf<"end"> | null;
}

export interface LossSum {
  readonly steps: number;
  readonly loss: number;
}

/** Views of older terms that may still run somewhere. */
const RECENT_VIEWS = 8;
/** A run holds its steps back where more than one waits. */
const MOST_DUE = 64;
/** Files of older ones were deleted long ago. */
const RECENT_CHECKPOINTS = 1024;

/**
 * Folds the records that count.
 * @param validateEvery steps between validated states; null without validation
 * @throws LockstepError LS_RECORDS_DAMAGED where final steps are not in sequence
 */
export function foldHistory(records: Iterable<DurableRecord>, validateEvery: number | null = null): FoldedHistory {
  const views: View[] = [];
  let ledgerTip: Tip | null = null as Tip | null;
  let first: RecordOf<"first"> | null = null as RecordOf<"first"> | null;
  let ended: RecordOf<"end"> | null = null;
  let stopping: string | null = null;
  let checkpoints: CheckpointRecord[] = [];
  let skipped = 0;
  let since: LossSum = { steps: 0, loss: 0 };
  let validations: RecordOf<"validation">[] = [];
  /** Of states that are to be validated, those that were not yet. */
  let due: Tip[] = [];
  for (const record of records) {
    switch (record.kind) {
      case "view":
        views.push(viewOf(record));
        if (views.length > RECENT_VIEWS) views.shift();
        break;
      case "final": {
        if (record.step !== (ledgerTip?.step ?? 0)) throw outOfSequence(record.step, ledgerTip?.step ?? 0);
        ledgerTip = { step: record.step + 1, lineage: record.lineage, stateHash: record.state };
        if (validateEvery !== null && ledgerTip.step % validateEvery === 0) due.push(ledgerTip);
        skipped = record.applied ? 0 : skipped + 1;
        since = addLoss(since, record.loss);
        break;
      }
      case "truncate":
        ledgerTip = record.tip;
        skipped = 0;
        if (record.keepsValidations !== true) validations = validations.filter(({ step }) => step <= record.tip.step);
        due = due.filter(({ step }) => step <= record.tip.step);
        checkpoints = checkpoints.filter(({ tip }) => tip.step <= record.tip.step);
        break;
      case "checkpoint": {
        const { kind: _, ...checkpoint } = record;
        checkpoints = [...checkpoints.filter(({ tip }) => tip.step !== record.tip.step), checkpoint].slice(
          -RECENT_CHECKPOINTS,
        );
        since = { steps: 0, loss: 0 };
        break;
      }
      case "validation":
        validations.push(record);
        due = due.filter(({ step }) => step > record.step);
        break;
      case "first":
        first = record;
        break;
      case "start":
        ended = null;
        stopping = null;
        break;
      case "stop":
        stopping = record.reason;
        break;
      case "end":
        ended = record;
        break;
      case "term":
      case "loss":
        break;
      default:
        record satisfies never;
    }
  }
  return {
    views,
    ledgerTip,
    skipped,
    checkpoint: checkpoints.at(-1)?.tip ?? null,
    fingerprint: first?.fingerprint ?? null,
    root: first?.root ?? null,
    facts: first?.facts ?? null,
    checkpoints,
    sinceCheckpoint: since,
    stopping,
    ended,
    ...validatedIn(validations),
    validationDue: due.slice(0, MOST_DUE),
  };
}

/** Of the validations, oldest first. */
function validatedIn(validations: readonly RecordOf<"validation">[]) {
  let best: BestState | null = null as BestState | null;
  let sinceBest: number[] = [];
  for (const { step, samples, correct } of validations) {
    if (isBetter({ samples, correct }, best)) {
      best = { step, samples, correct };
      sinceBest = [];
    } else if (samples > 0) sinceBest.push(step);
  }
  return { validated: validations.at(-1)?.step ?? 0, best, sinceBest };
}

export const addLoss = (sum: LossSum, loss: number | null): LossSum =>
  loss === null || !Number.isFinite(loss) ? sum : { steps: sum.steps + 1, loss: sum.loss + loss };

export const meanLoss = ({ steps, loss }: LossSum): number | null => (steps === 0 ? null : loss / steps);

const outOfSequence = (step: number, expected: number) =>
  new LockstepError("LS_RECORDS_DAMAGED", `The records name step ${step} final where step ${expected} is due.`, {
    hint: "Restore the records from a backup, or start a new run.",
  });
