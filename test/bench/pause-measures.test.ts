import { describe, expect, it } from "vitest";
import { durationOf, type EventMark, type History, historyOf, normalStep, type StepMark } from "./pauses/history.ts";
import {
  checkpointPauses,
  joinPause,
  leavePause,
  lossPause,
  takeOverPause,
  timeToContribution,
} from "./pauses/measures.ts";
import { rowOf, tableOf } from "./pauses/table.ts";

/** Histories drawn by hand: every step's duration is chosen, and what must come out is summed by hand. */
const T0 = 1_000_000;

/** Marks of steps 0, 1, … by the milliseconds from each one's finality to the next; `views` names the first step of each. */
function stepsOf(gaps: readonly number[], views: Readonly<Record<number, string>>, by = ["a"]): StepMark[] {
  let time = T0;
  let view = "";
  return [0, ...gaps].map((gap, step) => {
    time += gap;
    view = views[step] ?? view;
    return { step, time, view, by };
  });
}

const event = (time: number, type: string, fields: object, term = 1): EventMark => ({ time, term, type, ...fields });
const view = (time: number, id: string, step: number, reason: string, planned: boolean) =>
  event(time, "view", { id, step, reason, planned });
const calm = (count: number, millis: number) => Array.from({ length: count }, () => millis);

describe("the files of a run", () => {
  it("become marks: times as numbers, each worker of a step once", () => {
    const shards = [{ by: "a" }, { by: "a" }, { by: "b" }];
    const time = "2026-01-01T00:00:00.250Z";
    const history = historyOf([{ step: 4, time, view: "1.2", shards }], [{ time, term: 3, type: "heal", id: "1.2" }]);
    const at = Date.UTC(2026, 0, 1) + 250;
    expect(history.steps).toEqual([{ step: 4, time: at, view: "1.2", by: ["a", "b"] }]);
    expect(history.events).toEqual([{ time: at, term: 3, type: "heal", id: "1.2" }]);
  });

  it("a step lasts from the agreement on the one before it to its own", () => {
    const history = { steps: stepsOf([100, 200, 300], { 0: "1.1" }), events: [] };
    expect(durationOf(history, 2)).toBe(100);
    expect(durationOf(history, 4)).toBe(300);
    expect(durationOf(history, 1)).toBeNull();
    expect(durationOf(history, 5)).toBeNull();
  });

  it("the normal step is the median in the view, without the view's first steps", () => {
    const steps = stepsOf([...calm(6, 100), 900, 800, ...calm(4, 70), 500], { 0: "1.1", 7: "1.2" });
    expect(normalStep({ steps, events: [] }, "1.1", 3)).toBe(100);
    expect(normalStep({ steps, events: [] }, "1.2", 7)).toBe(70);
    expect(normalStep({ steps, events: [] }, "1.3", 7)).toBeNull();
  });
});

describe("the loss of a member", () => {
  // Steps of 100 ms; step 8 is under way since T0+700 when the member dies at T0+730; steps take 150 ms without it.
  // Lost at +750, view at +765, step 8 done again takes until +925.
  const history: History = {
    steps: stepsOf([...calm(6, 100), 325, ...calm(8, 150)], { 0: "1.1", 8: "1.2" }),
    events: [
      event(T0 + 10, "worker", { change: "lost", name: "w1" }),
      event(T0 + 750, "worker", { change: "lost", name: "w2" }),
      event(T0 + 750, "worker", { change: "lost", name: "w1" }),
      view(T0 + 765, "1.2", 8, "w1 lost: its process is gone", false),
    ],
  };

  it("is split into detection, agreement and the rest", () => {
    expect(lossPause(history, T0 + 630, "w1")).toEqual({
      millis: 325 - 150,
      parts: { detection: 120, agreement: 15, recomputation: 175 - 135 },
    });
  });

  it("is not measured where the history ends too early or nobody was lost", () => {
    expect(lossPause({ ...history, steps: history.steps.slice(0, 9) }, T0 + 630, "w1")).toBeNull();
    expect(lossPause(history, T0 + 800, "w1")).toBeNull();
    expect(lossPause({ ...history, events: history.events.slice(0, 3) }, T0 + 630, "w1")).toBeNull();
  });
});

describe("planned changes", () => {
  // Alone 200 ms a step; step 8 in view 1.2 takes 260 (somebody pulls); step 10 in view 1.3 takes 190, then 120 each;
  // step 20 in view 1.4 takes 215, then 200 again.
  const gaps = [...calm(6, 200), 260, 200, 190, ...calm(9, 120), 215, ...calm(6, 200)];
  const steps = stepsOf(gaps, { 0: "1.1", 8: "1.2", 10: "1.3", 20: "1.4" });
  const joined = steps.map((mark) => (mark.view === "1.3" ? { ...mark, by: ["a", "b"] } : mark));
  const at = (step: number) => steps[step]!.time;
  const history: History = {
    steps: joined,
    events: [
      view(T0, "1.1", 0, "start", false),
      event(T0 + 1000, "worker", { change: "ready", name: "w1", worker: "b" }),
      view(at(6) + 20, "1.2", 8, "join: w1", true),
      view(at(8) + 20, "1.3", 10, "level: w1", true),
      view(at(18) + 20, "1.4", 20, "leave: w1", true),
    ],
  };

  it("a join's pause is the longer one of what the step of the pull and the first step of its shards take longer", () => {
    const parts = { pull: 60, handover: 70, together: 130 };
    expect(joinPause(history, T0 + 100, "w1")).toEqual({ millis: 70, parts });
    expect(joinPause(history, T0 + 100, "w2")).toBeNull();
  });

  it("a leave costs what the first step of those who stay takes longer", () => {
    expect(leavePause(history, at(17), "w1")).toEqual({ millis: 15, parts: {} });
    expect(leavePause(history, at(19), "w1")).toBeNull();
  });

  it("the time to the first contribution is the sum of its parts", () => {
    const log = { dialledAt: T0 + 400, runtime: 300, data: 100, fingerprint: 150 };
    const found = timeToContribution(history, T0 + 100, "w1", log)!;
    // Step 10 is the first that b computed.
    expect(found.millis).toBe(at(10) - T0 - 100);
    expect(found.parts).toEqual({
      node: 300,
      runtime: 300,
      data: 100,
      fingerprint: 150,
      dialling: 50,
      plan: at(6) + 20 - T0 - 1000,
      pull: at(8) - at(6),
      step: at(10) - at(8) - 20,
    });
    expect(Object.values(found.parts).reduce((sum, part) => sum + part)).toBe(found.millis);
  });
});

describe("checkpoints", () => {
  const steps = stepsOf([...calm(8, 100), 130, 110, ...calm(8, 100)], { 0: "1.1" });
  const stored = (time: number, state = "stored") => event(time, "checkpoint", { state });
  const requested = event(T0 + 810, "checkpoint", { state: "requested" });

  it("cost what the slowest step from request to storage takes longer; and all of them", () => {
    const events = [requested, stored(T0 + 1000)];
    expect(checkpointPauses({ steps, events })).toEqual([{ millis: 30, parts: { whole: 40, stored: 190 } }]);
  });

  it("do not count where they failed or a view changed meanwhile", () => {
    expect(checkpointPauses({ steps, events: [requested, stored(T0 + 1000, "failed")] })).toEqual([]);
    const change = view(T0 + 900, "1.2", 10, "join: w1", true);
    expect(checkpointPauses({ steps, events: [requested, change, stored(T0 + 1000)] })).toEqual([]);
  });
});

it("a take-over: the slowest step that members broadcast until somebody rules again", () => {
  const heard = stepsOf([...calm(5, 100), 140, ...calm(10, 100)], { 0: "1.1" });
  const events = [event(T0 + 100, "phase", { phase: "running" }), event(T0 + 1200, "phase", { phase: "running" }, 2)];
  const steps = [...stepsOf(calm(4, 100), { 0: "1.1" }), { step: 5, time: T0 + 1205, view: "1.1", by: ["a"] }];
  expect(takeOverPause({ steps, events }, heard, T0 + 450)).toEqual({
    millis: 40,
    parts: { rules: 750, recorded: 755, steps: 8 },
  });
  expect(takeOverPause({ steps, events }, [], T0 + 450)).toBeNull();
});

it("a row has least, median and most of every part, and names what it was measured with", () => {
  const tries = [30, 10, 20, 40].map((millis) => ({ millis, parts: { detection: millis / 10 } }));
  const row = rowOf("worker killed", { model: "alexnet", batch: 32, workers: 3 }, tries);
  expect(row).toMatchObject({ tries: 4, millis: [10, 25, 40], parts: { detection: [1, 3, 4] } });
  expect(tableOf([row]).split("\n")[2]).toBe(
    "| worker killed | alexnet | 32 | 3 | 4 | 10 / 25 / 40 | detection 1 / 3 / 4 |",
  );
  expect(tableOf([rowOf("nothing", { model: "alexnet", batch: 32, workers: 3 }, [])])).toContain("| 0 | – |");
});
