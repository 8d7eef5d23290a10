import { type Cluster, tipAt } from "./machine-support.ts";

export const SETTINGS = {
  validation: { everySteps: 10, batches: 3, patience: null },
  checkpointEverySteps: 15,
  totalSteps: 100,
} as const;

/** Steps up to `to` become final, as a member tells of them. */
export function advance(cluster: Cluster, to: number, from = "a", applied = true): void {
  const entries = Array.from({ length: to - (cluster.machine.ledger?.step ?? 0) }, (_, i) => {
    const step = (cluster.machine.ledger?.step ?? 0) + i;
    const shards = [{ by: from }] as never;
    const { lineage, stateHash } = tipAt(step + 1);
    return {
      step,
      view: cluster.machine.installed!.id,
      lineage,
      stateHash,
      shards,
      loss: 1,
      gradientNorm: 1,
      applied,
    };
  });
  cluster.at = to;
  cluster.message(from, { kind: "final", entries });
  cluster.beat({ a: 10, b: 10 });
}

export const holds = (cluster: Cluster, name: string, step: number) =>
  cluster.message(name, { kind: "held", tip: tipAt(step), bytes: 4 });
export const counts = (batch: number) => ({ samples: 25, correct: 10 + batch, loss: 2 ** batch });
export const answers = (cluster: Cluster, name: string, step: number, batch: number) =>
  cluster.message(name, { kind: "validated", step, batch, ...counts(batch) });

/** What workers were asked to predict, as "name batch". */
export const asked = ({ actions }: Cluster) =>
  actions.flatMap((action) =>
    action.kind === "send" && action.message.kind === "validate" ? [`${action.to} ${action.message.batch}`] : [],
  );
export const recorded = ({ actions }: Cluster) =>
  actions.flatMap((action) => (action.kind === "recordValidation" ? [action.validation] : []));
export const done = ({ actions }: Cluster) =>
  actions.flatMap((action) =>
    action.kind === "send" && action.message.kind === "validationDone" ? [`${action.to} ${action.message.step}`] : [],
  );
export const snapshots = ({ actions }: Cluster) =>
  actions.filter((action) => action.kind === "send" && action.message.kind === "snapshot").length;

export const SUM = { samples: 75, correct: 33, loss: 7 };
