import { expect, test } from "vitest";
import { foldHistory } from "../../coordinator/records/history.ts";
import type { DurableRecord } from "../../coordinator/records/record.ts";
import type { Incarnation } from "../../shared/protocol/view.ts";
import { Cluster, historyAt, tipAt } from "./machine-support.ts";

const SETTINGS = { validation: { everySteps: 10, batches: 3 }, checkpointEverySteps: 15, totalSteps: 100 } as const;

/** Steps up to `to` become final, as a member tells of them. */
function advance(cluster: Cluster, to: number, from = "a"): void {
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
      applied: true,
    };
  });
  cluster.at = to;
  cluster.message(from, { kind: "final", entries });
  cluster.beat({ a: 10, b: 10 });
}

const holds = (cluster: Cluster, name: string, step: number) =>
  cluster.message(name, { kind: "held", tip: tipAt(step) });
const counts = (batch: number) => ({ samples: 25, correct: 10 + batch, loss: 2 ** batch });
const answers = (cluster: Cluster, name: string, step: number, batch: number) =>
  cluster.message(name, { kind: "validated", step, batch, ...counts(batch) });

/** What workers were asked to predict, as "name batch". */
const asked = ({ actions }: Cluster) =>
  actions.flatMap((action) =>
    action.kind === "send" && action.message.kind === "validate" ? [`${action.to} ${action.message.batch}`] : [],
  );
const recorded = ({ actions }: Cluster) =>
  actions.flatMap((action) => (action.kind === "recordValidation" ? [action.validation] : []));
const done = ({ actions }: Cluster) =>
  actions.flatMap((action) =>
    action.kind === "send" && action.message.kind === "validationDone" ? [`${action.to} ${action.message.step}`] : [],
  );
const snapshots = ({ actions }: Cluster) =>
  actions.filter((action) => action.kind === "send" && action.message.kind === "snapshot").length;

const SUM = { samples: 75, correct: 33, loss: 7 };

test("batches go one at a time to whoever holds the final state; the sum is recorded before anybody hears that it is done", () => {
  const cluster = Cluster.of(["a", "b"], SETTINGS);
  holds(cluster, "a", 10);
  expect(asked(cluster)).toEqual([]);
  advance(cluster, 12);
  holds(cluster, "b", 10);
  expect(asked(cluster)).toEqual(["a 0", "b 1"]);
  answers(cluster, "b", 10, 1);
  answers(cluster, "b", 10, 2);
  expect(recorded(cluster)).toEqual([]);
  answers(cluster, "a", 10, 0);
  expect(asked(cluster)).toEqual(["a 0", "b 1", "b 2"]);
  expect(recorded(cluster)).toEqual([{ step: 10, lineage: "l10", ...SUM }]);
  expect(done(cluster)).toEqual(["a 10", "b 10"]);
  const order = cluster.actions.map(({ kind, ...action }) => ("message" in action ? action.message.kind : kind));
  expect(order.indexOf("recordValidation")).toBeLessThan(order.indexOf("validationDone"));
  expect(cluster.events.at(-1)).toMatchObject({ type: "validation", step: 10, accuracy: 33 / 75, loss: 7 / 75 });
});

test("a batch of a lost holder goes to another one, and one that was done twice counts once", () => {
  const cluster = Cluster.of(["a", "b"], SETTINGS);
  for (const name of ["a", "b"]) holds(cluster, name, 10);
  advance(cluster, 11);
  expect(asked(cluster)).toEqual(["a 0", "b 1"]);
  cluster.die("b");
  expect(cluster.machine.installed?.members.map(({ incarnation }) => incarnation)).toEqual(["a"]);
  answers(cluster, "a", 10, 0);
  answers(cluster, "a", 10, 0);
  answers(cluster, "a", 10, 1);
  answers(cluster, "a", 10, 2);
  expect(asked(cluster)).toEqual(["a 0", "b 1", "a 1", "a 2"]);
  expect(recorded(cluster)).toEqual([{ step: 10, lineage: "l10", ...SUM }]);
});

test("a state of another lineage or hash is not validated", () => {
  const cluster = Cluster.of(["a", "b"], SETTINGS);
  cluster.message("a", { kind: "held", tip: { ...tipAt(10), lineage: "other" } });
  cluster.message("b", { kind: "held", tip: { ...tipAt(10), stateHash: "other" } });
  advance(cluster, 11);
  cluster.tick();
  expect(asked(cluster)).toEqual([]);
});

test("a worker that does not come back with a batch loses it to one that waits for work", () => {
  const cluster = Cluster.of(["a", "b"], SETTINGS);
  for (const name of ["a", "b"]) holds(cluster, name, 10);
  advance(cluster, 11);
  answers(cluster, "a", 10, 0);
  answers(cluster, "a", 10, 2);
  const { heartbeatInterval, answerTimeout } = cluster.machine.settings.timing;
  for (let waited = 0; waited < answerTimeout + 1000; waited += heartbeatInterval) {
    cluster.tick(heartbeatInterval);
    advance(cluster, cluster.at + 1);
  }
  expect(asked(cluster)).toEqual(["a 0", "b 1", "a 2", "a 1"]);
});

test("no checkpoint of a later state is asked for before the validation is recorded", () => {
  const cluster = Cluster.of(["a", "b"], SETTINGS);
  advance(cluster, 16);
  expect(snapshots(cluster)).toBe(0);
  holds(cluster, "a", 10);
  for (const batch of [0, 1, 2]) answers(cluster, "a", 10, batch);
  expect(recorded(cluster)).toHaveLength(1);
  expect(snapshots(cluster)).toBe(1);
});

test("where nobody is left who could hold the state it is given up after a while, and not before the run is past it again", () => {
  const cluster = Cluster.of(["a", "b"], SETTINGS);
  advance(cluster, 11);
  const { grace, heartbeatInterval } = cluster.machine.settings.timing;
  const pass = (millis: number) => {
    for (let waited = 0; waited < millis; waited += heartbeatInterval) {
      cluster.tick(heartbeatInterval);
      cluster.beat({ a: 10, b: 10 });
    }
  };
  cluster.machine.progressStep = 4;
  cluster.at = 4;
  pass(2 * grace);
  expect(recorded(cluster)).toEqual([]);
  cluster.at = 11;
  pass(grace + 2 * heartbeatInterval);
  expect(recorded(cluster)).toEqual([{ step: 10, lineage: "l10", samples: 0, correct: 0, loss: 0 }]);
  expect(cluster.events).toContainEqual(expect.objectContaining({ type: "validation", step: 10, accuracy: null }));
});

test("a coordinator that takes over goes on with the validation that was due, and lets go whoever still holds an older state", () => {
  const history = historyAt(23, { validated: 10, validationDue: tipAt(20), checkpoint: tipAt(15) });
  const cluster = new Cluster({ ...SETTINGS, workers: 1 }, history);
  cluster.at = 23;
  cluster.join("a");
  holds(cluster, "a", 10);
  expect(done(cluster)).toEqual(["a 10"]);
  holds(cluster, "a", 20);
  expect(asked(cluster)).toEqual(["a 0"]);
});

test("a fork, or a run that validates from now on, does not wait for states before its checkpoint; the checkpoint's own is due", () => {
  const fork = new Cluster(SETTINGS, historyAt(37, { checkpoint: tipAt(37) }));
  expect(fork.machine.validated).toBe(30);
  const exact = new Cluster(SETTINGS, historyAt(40, { checkpoint: tipAt(40) }));
  expect(exact.machine.validated).toBe(30);
});

test("at rest the run waits for the validation, then stores its last checkpoint; the last step itself has the evaluation", () => {
  const cluster = Cluster.of(["a"], { ...SETTINGS, totalSteps: 20 });
  advance(cluster, 20);
  const idle = () =>
    cluster.message("a", { kind: "idle", view: cluster.machine.installed!.id, standing: cluster.standing() });
  idle();
  expect(cluster.machine.phase).toBe("finishing");
  expect(snapshots(cluster)).toBe(0);
  holds(cluster, "a", 10);
  for (const batch of [0, 1, 2]) answers(cluster, "a", 10, batch);
  expect(recorded(cluster)).toHaveLength(1);
  expect(snapshots(cluster)).toBe(1);
});

test("the records say what is validated and what is due, also after the line was cut back", () => {
  const hex = (step: number) => step.toString(16).padStart(64, "0");
  const final = (step: number): DurableRecord => ({
    ...{ kind: "final", step, view: [1, 1], lineage: hex(step + 1), state: "", ids: "", gradients: "" },
    ...{ samples: [2], correct: [1], by: [["a" as Incarnation, 1]], loss: 1, norm: 1, applied: true, time: 0 },
  });
  const validation = (step: number): DurableRecord => ({
    ...{ kind: "validation", step, lineage: hex(step), samples: 75, correct: 33, loss: 7, time: 0 },
  });
  const line = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => final(from + i));
  const records = [...line(0, 12), validation(10), ...line(12, 31)];
  expect(foldHistory(records, 10)).toMatchObject({ validated: 10, validationDue: { step: 20, lineage: hex(20) } });
  const cut: DurableRecord = { kind: "truncate", tip: { step: 8, lineage: hex(8), stateHash: "" } };
  expect(foldHistory([...records, cut], 10)).toMatchObject({ validated: 8, validationDue: null });
  expect(foldHistory([...records, cut, ...line(8, 11)], 10)).toMatchObject({ validationDue: { step: 10 } });
});
