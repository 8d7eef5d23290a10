import { LockstepError } from "../shared/errors.ts";
import { idsDigest } from "../shared/plan/digest.ts";
import type { Plan } from "../shared/plan/plan.ts";
import type { ShardRecord } from "../shared/protocol/trailer.ts";

/** What the ledger needs of a final step. */
export interface LedgerStep {
  readonly step: number;
  readonly lineage: string;
  readonly shards: readonly Pick<ShardRecord, "shard" | "idsDigest" | "samples">[];
}

/** A micro-batch whose samples were not the planned ones. */
export interface Difference {
  readonly step: number;
  readonly shard: number;
  /** Digests of the ids that reached the device, and of the planned ones. */
  readonly fed: string;
  readonly planned: string;
}

/** The history of the surviving weights, as far as its samples go. */
export interface Ledger {
  /** Final steps: 0 to this one, without gaps. */
  readonly steps: number;
  readonly lineage: string;
  /** First differing shard of each step that differs, oldest first; at most MOST_DIFFERENCES of them. */
  readonly differences: readonly Difference[];
  /** More steps differ than are listed, so that a fall-back cannot tell any more. */
  readonly many: boolean;
}

const MOST_DIFFERENCES = 1000;

export const emptyLedger: Ledger = { steps: 0, lineage: "", differences: [], many: false };

/**
 * The ledger after one more final step. A step that it holds already is a repeat and changes nothing.
 * @throws LockstepError LS_LEDGER_GAP where steps before this one are missing, LS_LEDGER_CONTRADICTION where the newest step
 * is named again with another lineage
 */
export function acceptStep(ledger: Ledger, step: LedgerStep, plan: Plan): Ledger {
  if (step.step === ledger.steps - 1 && step.lineage !== ledger.lineage) throw contradiction(step, ledger);
  if (step.step < ledger.steps) return ledger;
  if (step.step > ledger.steps) throw gap(step, ledger);
  const difference = differenceOf(step, plan);
  const next = { ...ledger, steps: step.step + 1, lineage: step.lineage };
  if (difference === null) return next;
  if (ledger.differences.length >= MOST_DIFFERENCES) return { ...next, many: true };
  return { ...next, differences: [...ledger.differences, difference] };
}

/** The ledger after a fall-back: only the first `steps` steps count. */
export const truncateLedger = (ledger: Ledger, steps: number, lineage: string): Ledger => ({
  ...ledger,
  steps,
  lineage,
  differences: ledger.differences.filter(({ step }) => step < steps),
});

/** Every sample exactly once per epoch, as far as the steps go: each micro-batch was the planned one, in its order. */
export const isExact = ({ differences, many }: Ledger): boolean => differences.length === 0 && !many;

/** The first shard of a step whose samples are not the planned ones; null where all are. */
export function differenceOf({ step, shards }: LedgerStep, plan: Plan): Difference | null {
  for (let shard = 0; shard < plan.shards; shard++) {
    const planned = idsDigest(plan.microBatch(step, shard));
    const record = shards[shard];
    const same = record?.shard === shard && record.idsDigest === planned && record.samples === plan.sizeOf(step, shard);
    if (!same) return { step, shard, fed: record?.idsDigest ?? "", planned };
  }
  return null;
}

const gap = ({ step }: LedgerStep, { steps }: Ledger) =>
  new LockstepError("LS_LEDGER_GAP", `Step ${step} was named final where step ${steps} is due.`);

const contradiction = ({ step, lineage }: LedgerStep, ledger: Ledger) =>
  new LockstepError(
    "LS_LEDGER_CONTRADICTION",
    `Step ${step} was named final with the lineage ${lineage.slice(0, 16)} and with ${ledger.lineage.slice(0, 16)}.`,
  );
