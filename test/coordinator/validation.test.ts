import { describe, expect, test } from "vitest";
import { retained } from "../../coordinator/checkpoints/retention.ts";
import { foldHistory } from "../../coordinator/records/history.ts";
import type { CheckpointRecord, DurableRecord } from "../../coordinator/records/record.ts";
import type { Incarnation } from "../../shared/protocol/view.ts";
import { Cluster, historyAt, tipAt } from "./machine-support.ts";

const SETTINGS = {
  validation: { everySteps: 10, batches: 3, patience: null },
  checkpointEverySteps: 15,
  totalSteps: 100,
} as const;

/** Steps up to `to` become final, as a member tells of them. */
function advance(cluster: Cluster, to: number, from = "a", applied = true): void {
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

const holds = (cluster: Cluster, name: string, step: number) =>
  cluster.message(name, { kind: "held", tip: tipAt(step), bytes: 4 });
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
  cluster.message("a", { kind: "held", tip: { ...tipAt(10), lineage: "other" }, bytes: 4 });
  cluster.message("b", { kind: "held", tip: { ...tipAt(10), stateHash: "other" }, bytes: 4 });
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
  const history = historyAt(23, { validated: 10, validationDue: [tipAt(20)], checkpoint: tipAt(15) });
  const cluster = new Cluster({ ...SETTINGS, workers: 1 }, history);
  cluster.at = 23;
  cluster.join("a");
  holds(cluster, "a", 10);
  expect(done(cluster)).toEqual(["a 10"]);
  holds(cluster, "a", 20);
  expect(asked(cluster)).toEqual(["a 0"]);
});

test("of a state of which neither records nor workers know, a coordinator gives up in the end", () => {
  const history = historyAt(23, { validated: 0, validationDue: [], checkpoint: tipAt(10) });
  const cluster = new Cluster({ ...SETTINGS, workers: 1 }, history);
  cluster.at = 23;
  cluster.join("a");
  for (let waited = 0; waited < 20_000; waited += 250) {
    cluster.tick(250);
    cluster.beat({ a: 10 });
  }
  expect(recorded(cluster).map(({ step, samples }) => [step, samples])).toEqual([
    [10, 0],
    [20, 0],
  ]);
});

test("a fork, or a run that validates from now on, does not wait for states before its checkpoint; the checkpoint's own is due", () => {
  const fork = new Cluster(SETTINGS, historyAt(37, { checkpoint: tipAt(37) }));
  expect(fork.machine.validated).toBe(30);
  const exact = new Cluster(SETTINGS, historyAt(40, { checkpoint: tipAt(40) }));
  expect(exact.machine.validated).toBe(30);
});

test("a state that is not validated in this run, since its interval is another one now, is let go at once", () => {
  const cluster = Cluster.of(["a"], SETTINGS);
  advance(cluster, 8);
  holds(cluster, "a", 7);
  expect(done(cluster)).toEqual(["a 7"]);
  const without = Cluster.of(["a"], { ...SETTINGS, validation: null });
  holds(without, "a", 10);
  expect(done(without)).toEqual(["a 10"]);
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
  expect(foldHistory(records, 10)).toMatchObject({
    validated: 10,
    validationDue: [{ step: 20, lineage: hex(20) }, { step: 30 }],
  });
  const cut: DurableRecord = { kind: "truncate", tip: { step: 8, lineage: hex(8), stateHash: "" } };
  expect(foldHistory([...records, cut], 10)).toMatchObject({ validated: 0, validationDue: [] });
  expect(foldHistory([...records, cut, ...line(8, 11)], 10)).toMatchObject({ validationDue: [{ step: 10 }] });
});

describe("with patience", () => {
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
});
