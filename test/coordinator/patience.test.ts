import { expect, test } from "vitest";
import { retained } from "../../coordinator/checkpoints/retention.ts";
import { foldHistory } from "../../coordinator/records/history.ts";
import type { CheckpointRecord, DurableRecord } from "../../coordinator/records/record.ts";
import { Cluster, historyAt, tipAt } from "./machine-support.ts";

import { advance, holds, recorded, SETTINGS, snapshots } from "./validation-support.ts";

const PATIENT = { ...SETTINGS, validation: { ...SETTINGS.validation, patience: 2 } } as const;

/** Everything that is due at this step is found so; what is stored is stored at once. */
function validate(cluster: Cluster, step: number, correct: number): void {
  advance(cluster, Math.max(cluster.machine.ledger?.step ?? 0, Math.min(step + 1, PATIENT.totalSteps)));
  holds(cluster, "a", step);
  for (const batch of [0, 1, 2])
    cluster.message("a", {
      kind: "validated",
      step,
      batch,
      samples: 25,
      correct: batch === 0 ? correct : 0,
      loss: 1,
    });
}
const stores = ({ actions }: Cluster) =>
  actions.flatMap((action) => (action.kind === "storeCheckpoint" ? [action.tip.step] : []));
const ends = ({ actions }: Cluster) =>
  actions.flatMap((action): (number | string)[] =>
    action.kind === "retreat" ? [action.before] : action.kind === "finish" ? [action.outcome.kind] : [],
  );

test("a better state becomes a checkpoint before its validation counts; after as many worse ones the run ends there", () => {
  const cluster = Cluster.of(["a"], PATIENT);
  validate(cluster, 10, 20);
  expect(stores(cluster)).toEqual([10]);
  expect(recorded(cluster)).toEqual([]);
  cluster.feed({ kind: "checkpointStored", tip: tipAt(10) });
  expect(recorded(cluster)).toHaveLength(1);
  // As many are no gain.
  validate(cluster, 20, 20);
  expect(stores(cluster)).toEqual([10]);
  expect(recorded(cluster)).toHaveLength(2);
  expect(ends(cluster)).toEqual([]);
  validate(cluster, 30, 19);
  expect(ends(cluster)).toEqual([10, "done"]);
  expect(cluster.actions.find(({ kind }) => kind === "retreat")).toMatchObject({ keepsValidations: true });
  expect(cluster.machine.phase).toBe("finished");
  // What still comes in does not count any more.
  const before = cluster.actions.length;
  advance(cluster, 35);
  expect(cluster.actions.slice(before).filter(({ kind }) => kind === "recordFinal")).toEqual([]);
});

test("a checkpoint of a later state, which waits for the validation, gives way to that of the better one", () => {
  const cluster = Cluster.of(["a"], { ...PATIENT, checkpointEverySteps: 5 });
  advance(cluster, 6);
  expect(snapshots(cluster)).toBe(1);
  advance(cluster, 12);
  cluster.message("a", { kind: "snapshot", tip: tipAt(11), bytes: 4 });
  expect(stores(cluster)).toEqual([]);
  validate(cluster, 10, 20);
  cluster.tick();
  expect(stores(cluster)).toEqual([10]);
  cluster.feed({ kind: "checkpointStored", tip: tipAt(10) });
  expect(recorded(cluster)).toHaveLength(1);
});

test("a better one begins the count anew, and one that could not be stored is asked of the next holder", () => {
  const cluster = Cluster.of(["a"], PATIENT);
  for (const [step, correct] of [
    [10, 5],
    [20, 4],
    [30, 6],
    [40, 3],
  ] as const) {
    validate(cluster, step, correct);
    if (correct > 4) cluster.feed({ kind: "checkpointFailed", tip: tipAt(step), reason: "no room" });
    if (correct <= 4) continue;
    expect(stores(cluster).at(-1)).toBe(step);
    cluster.tick(2000);
    cluster.beat({ a: 10 });
    expect(stores(cluster).filter((stored) => stored === step)).toHaveLength(2);
    cluster.feed({ kind: "checkpointStored", tip: tipAt(step) });
  }
  expect(recorded(cluster).map(({ step }) => step)).toEqual([10, 20, 30, 40]);
  expect(ends(cluster)).toEqual([]);
  validate(cluster, 50, 6);
  expect(ends(cluster)).toEqual([30, "done"]);
});

test("the last step is validated too, and a former state that was better is where the run ends", () => {
  const cluster = Cluster.of(["a"], { ...PATIENT, totalSteps: 15 });
  validate(cluster, 10, 20);
  cluster.feed({ kind: "checkpointStored", tip: tipAt(10) });
  advance(cluster, 15);
  cluster.message("a", { kind: "idle", view: cluster.machine.installed!.id, standing: cluster.standing() });
  expect(snapshots(cluster)).toBe(0);
  validate(cluster, 15, 19);
  expect(ends(cluster)).toEqual([10, "done"]);
});

const idle = (cluster: Cluster) =>
  cluster.message("a", { kind: "idle", view: cluster.machine.installed!.id, standing: cluster.standing() });
const pass = (cluster: Cluster, millis: number) => {
  for (let waited = 0; waited < millis; waited += 250) {
    cluster.tick(250);
    cluster.beat({ a: 10 }, { phase: "evaluate" });
  }
};

test("a better state behind steps that are not finite becomes a checkpoint all the same", () => {
  const cluster = Cluster.of(["a"], PATIENT);
  advance(cluster, 8);
  advance(cluster, 11, "a", false);
  validate(cluster, 10, 20);
  cluster.tick();
  expect(stores(cluster)).toEqual([10]);
  cluster.feed({ kind: "checkpointStored", tip: tipAt(10) });
  expect(recorded(cluster)).toHaveLength(1);
});

test("the last step of which nobody keeps the state is done again, and given up where nobody keeps it then", () => {
  const cluster = Cluster.of(["a"], { ...PATIENT, totalSteps: 15 });
  validate(cluster, 10, 20);
  cluster.feed({ kind: "checkpointStored", tip: tipAt(10) });
  advance(cluster, 15);
  idle(cluster);
  pass(cluster, cluster.machine.settings.timing.grace / 2);
  expect(ends(cluster)).toEqual([]);
  pass(cluster, cluster.machine.settings.timing.grace);
  // It may be the best one, so that the run comes by it again.
  expect(cluster.events).toContainEqual(expect.objectContaining({ type: "fallback", toStep: 10 }));
  expect(recorded(cluster)).toHaveLength(1);
  cluster.at = 15;
  idle(cluster);
  pass(cluster, 2 * cluster.machine.settings.timing.grace);
  expect(recorded(cluster).at(-1)).toMatchObject({ step: 15, samples: 0 });
  expect(ends(cluster)).toEqual([10, "done"]);
});

test("a state whose holders are all lost while a newcomer has a newer one is come by again from the last checkpoint", () => {
  const cluster = Cluster.of(["a"], PATIENT);
  validate(cluster, 10, 20);
  cluster.feed({ kind: "checkpointStored", tip: tipAt(10) });
  advance(cluster, 22);
  pass(cluster, cluster.machine.settings.timing.grace + 1000);
  expect(cluster.at).toBe(10);
  expect(recorded(cluster)).toHaveLength(1);
  expect(cluster.machine.installedBase).toEqual(tipAt(10));
  cluster.at = 20;
  validate(cluster, 20, 19);
  expect(recorded(cluster).at(-1)).toMatchObject({ step: 20, samples: 75, correct: 19 });
});

test("validations of steps that another line has taken the place of do not count any more", () => {
  const cluster = Cluster.of(["a"], PATIENT);
  validate(cluster, 10, 20);
  cluster.feed({ kind: "checkpointStored", tip: tipAt(10) });
  validate(cluster, 20, 19);
  const shards = [{ by: "a" }] as never;
  const other = { lineage: "other", stateHash: "other", shards, loss: 1, gradientNorm: 1, applied: true };
  const view = cluster.machine.installed!.id;
  cluster.message("a", { kind: "final", entries: [{ step: 15, view, ...other }] });
  expect(cluster.machine.sinceBest).toEqual([]);
  validate(cluster, 20, 19);
  expect(ends(cluster)).toEqual([]);
  validate(cluster, 30, 19);
  expect(ends(cluster)).toEqual([10, "done"]);
});

test("nobody is accused while members hold an update back until the better state is a checkpoint", () => {
  const cluster = Cluster.of(["a"], PATIENT);
  validate(cluster, 10, 20);
  advance(cluster, 20);
  pass(cluster, 30_000);
  expect(cluster.views).toHaveLength(1);
  expect(stores(cluster)).toEqual([10]);
});

test("the last worker does not leave for a better state that is older than its own", () => {
  const cluster = Cluster.of(["a"], PATIENT);
  advance(cluster, 14);
  cluster.message("a", { kind: "leaving", reason: "SIGTERM" });
  cluster.tick();
  validate(cluster, 10, 20);
  expect(stores(cluster)).toEqual([10]);
  cluster.feed({ kind: "checkpointStored", tip: tipAt(10) });
  const released = () => cluster.actions.some((a) => a.kind === "send" && a.message.kind === "release");
  expect(released()).toBe(false);
  cluster.message("a", { kind: "snapshot", tip: tipAt(14), bytes: 4 });
  cluster.feed({ kind: "checkpointStored", tip: tipAt(14) });
  expect(released()).toBe(true);
});

test("a coordinator that takes over after the last validation ends the run", () => {
  const best = { step: 10, samples: 75, correct: 20 };
  const history = historyAt(33, { validated: 30, best, sinceBest: [20, 30], checkpoint: tipAt(10) });
  const cluster = new Cluster({ ...PATIENT, workers: 1 }, history);
  cluster.tick();
  expect(ends(cluster)).toEqual([10, "done"]);
});

test("the records say which state was best, and keep the validations of a run that has ended there", () => {
  const found = (step: number, correct: number): DurableRecord => ({
    ...{ kind: "validation", step, lineage: "0".repeat(64), samples: 75, correct, loss: 7, time: 0 },
  });
  const cut = (kept: boolean): DurableRecord => ({
    ...{ kind: "truncate", tip: { step: 20, lineage: "", stateHash: "" } },
    ...(kept ? { keepsValidations: true as const } : {}),
  });
  const records = [found(10, 20), found(20, 30), found(30, 30), found(40, 29)];
  expect(foldHistory(records, 10)).toMatchObject({
    best: { step: 20, correct: 30 },
    sinceBest: [30, 40],
    validated: 40,
  });
  expect(foldHistory([...records, cut(true)], 10)).toMatchObject({
    best: { step: 20 },
    sinceBest: [30, 40],
    validated: 40,
  });
  expect(foldHistory([...records, cut(false)], 10)).toMatchObject({
    best: { step: 20 },
    sinceBest: [],
    validated: 20,
  });
});

test("the checkpoint of the best validated state stays in place of that of the lowest training loss", () => {
  const at = (step: number, loss: number): CheckpointRecord => ({
    ...{ tip: tipAt(step), file: `step-${step}`, sha256: "", bytes: 1, loss },
  });
  const all = [at(10, 3), at(20, 1), at(30, 2), at(40, 2)];
  const steps = (validated: number | null) => retained(all, 1, validated).map(({ tip }) => tip.step);
  expect([steps(10), steps(null), steps(40)]).toEqual([[10, 40], [20, 40], [40]]);
});
