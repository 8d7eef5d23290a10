import type { History } from "../../coordinator/machine/state.ts";
import type { Validation } from "../../coordinator/machine/validate.ts";
import type { LedgerEntry } from "../../shared/protocol/trailer.ts";
import type { Tip, View } from "../../shared/protocol/view.ts";
import { Violation } from "./invariants.ts";

export type DurableRecord =
  | { readonly term: number; readonly kind: "view"; readonly view: View }
  | { readonly term: number; readonly kind: "final"; readonly entry: LedgerEntry }
  | { readonly term: number; readonly kind: "truncate"; readonly tip: Tip }
  | { readonly term: number; readonly kind: "first"; readonly fingerprint: readonly string[]; readonly root: string }
  | { readonly term: number; readonly kind: "checkpoint"; readonly tip: Tip }
  | { readonly term: number; readonly kind: "validation"; readonly validation: Validation };

/** What a coordinator that takes over finds. */
export function historyOf(records: readonly DurableRecord[], root: Tip, validateEvery?: number): History {
  const views: View[] = [];
  let ledger: Tip | null = null;
  let checkpoint: Tip | null = null;
  let validated = 0;
  let due: Tip[] = [];
  let first: { readonly fingerprint: readonly string[]; readonly root: string } | null = null;
  for (const record of records) {
    switch (record.kind) {
      case "view":
        views.push(record.view);
        break;
      case "final":
        if (record.entry.step !== ((ledger as Tip | null) ?? root).step)
          throw new Violation("every-sample-once", "the ledger has a gap or a repeat");
        ledger = { step: record.entry.step + 1, lineage: record.entry.lineage, stateHash: record.entry.stateHash };
        if (validateEvery !== undefined && ledger.step % validateEvery === 0) due.push(ledger);
        break;
      case "truncate":
        ledger = record.tip;
        validated = Math.min(validated, record.tip.step);
        due = due.filter(({ step }) => step <= record.tip.step);
        break;
      case "validation":
        validated = record.validation.step;
        due = due.filter(({ step }) => step > validated);
        break;
      case "checkpoint":
        checkpoint = record.tip;
        break;
      case "first":
        first = record;
        break;
      default:
        record satisfies never;
    }
  }
  return {
    views: views.slice(-4),
    ledgerTip: ledger,
    skipped: 0,
    checkpoint,
    fingerprint: first === null ? null : ["f"],
    root: first === null ? null : "root",
    validated,
    validationDue: due,
  };
}
