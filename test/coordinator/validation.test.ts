import { expect, test } from "vitest";
import { foldHistory } from "../../coordinator/records/history.ts";
import type { DurableRecord } from "../../coordinator/records/record.ts";
import type { Incarnation } from "../../shared/protocol/view.ts";
import { Cluster, historyAt, tipAt } from "./machine-support.ts";

import { advance, answers, asked, done, holds, recorded, SETTINGS, SUM, snapshots } from "./validation-support.ts";

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
