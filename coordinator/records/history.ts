import type { History } from "../machine/state.ts";
import type { Tip, View } from "../../shared/protocol/view.ts";
import type { DurableRecord } from "./record.ts";

export interface CheckpointRecord {
  readonly tip: Tip;
  readonly file: string;
  readonly sha256: string;
  readonly bytes: number;
}

export interface FoldedHistory extends History {
  /** All recorded checkpoints, oldest first. */
  readonly checkpoints: readonly CheckpointRecord[];
  readonly ended: string | null;
}

/** Views of older terms that may still run somewhere. */
const RECENT_VIEWS = 8;

/** Folds the records that count into what a new reign starts from. */
export function foldHistory(records: Iterable<DurableRecord>): FoldedHistory {
  const views: View[] = [];
  let ledgerTip: Tip | null = null;
  let first: { readonly fingerprint: readonly string[]; readonly root: string } | null = null;
  let ended: string | null = null;
  const checkpoints: CheckpointRecord[] = [];
  for (const record of records) {
    switch (record.kind) {
      case "view":
        views.push(record.view as unknown as View);
        if (views.length > RECENT_VIEWS) views.shift();
        break;
      case "final":
        ledgerTip = { step: record.entry.step + 1, lineage: record.entry.lineage, stateHash: record.entry.stateHash };
        break;
      case "truncate":
        ledgerTip = record.tip;
        break;
      case "checkpoint":
        checkpoints.push(record);
        break;
      case "first":
        first = record;
        break;
      case "start":
        ended = null;
        break;
      case "end":
        ended = record.outcome;
        break;
      case "term":
        break;
      default:
        record satisfies never;
    }
  }
  return {
    views,
    ledgerTip,
    checkpoint: checkpoints.at(-1)?.tip ?? null,
    fingerprint: first?.fingerprint ?? null,
    root: first?.root ?? null,
    checkpoints,
    ended,
  };
}
