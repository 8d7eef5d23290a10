import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { readLines } from "../../shared/data/json-lines.ts";
import { eventFacts, paceOf, type StepFact, stepFacts } from "../../worker/evaluation/history.ts";

const shards = [
  { shard: 0, samples: 3, correct: 1, by: "a" },
  { shard: 1, samples: 2, correct: 2, by: "b" },
];

describe("lines of a run", () => {
  it("are read up to a torn end; a file that is not there has none", () => {
    const directory = mkdtempSync(join(tmpdir(), "lockstep-history-"));
    onTestFinished(() => rmSync(directory, { recursive: true }));
    const file = join(directory, "steps.ndjson");
    writeFileSync(file, '{"step":0}\n7\n\n{"step":1}\n{"step":2,"lo');
    expect(readLines(file)).toEqual([{ step: 0 }, { step: 1 }]);
    expect(readLines(join(directory, "none"))).toEqual([]);
  });

  it("give steps with their time, loss, accuracy and members", () => {
    const line = { step: 4, time: "2026-05-12T09:30:00.250Z", loss: 1.5, images: 5, applied: false, shards };
    expect(stepFacts([line])).toEqual([
      {
        step: 5,
        time: Date.UTC(2026, 4, 12, 9, 30, 0, 250),
        loss: 1.5,
        accuracy: 0.6,
        samples: 5,
        members: 2,
        applied: false,
      },
    ]);
  });

  it("a step that was done again counts as it was done last, and steps come in order", () => {
    const steps = stepFacts([{ step: 1, loss: 2 }, { step: 0, loss: 3 }, { step: 1, loss: 1 }, { loss: 9 }]);
    expect(steps.map(({ step, loss }) => [step, loss])).toEqual([
      [1, 3],
      [2, 1],
    ]);
  });

  it("give events with a sentence, or their kind where there is none", () => {
    const lines = [
      { kind: "view", time: "nonsense", step: 3, members: ["a", "b"], text: "b left" },
      { kind: "end" },
      { time: 1 },
    ];
    expect(eventFacts(lines)).toEqual([
      { kind: "view", time: null, step: 3, members: 2, text: "b left" },
      { kind: "end", time: null, step: null, members: null, text: "end" },
    ]);
  });
});

describe("the pace", () => {
  const step = (index: number, time: number): StepFact => ({
    step: index + 1,
    time,
    loss: 1,
    accuracy: null,
    samples: 10,
    members: 1,
    applied: true,
  });

  it("is images over time, stretch by stretch, pauses included", () => {
    // 4 steps of 1 s, then 4 steps that take 10 s together.
    const times = [0, 1, 2, 3, 4, 5, 6, 7, 14].map((seconds) => seconds * 1000);
    expect(paceOf(times.map((time, i) => step(i, time)))).toEqual([
      { from: 0, to: 4, imagesPerSecond: 10 },
      { from: 4, to: 14, imagesPerSecond: 4 },
    ]);
  });

  it("counts every image of a long run once, in at most that many stretches", () => {
    const pace = paceOf(
      Array.from({ length: 1001 }, (_, i) => step(i, i * 7)),
      50,
    );
    expect(pace.length).toBeLessThanOrEqual(50);
    const images = pace.reduce((sum, { from, to, imagesPerSecond }) => sum + (to - from) * imagesPerSecond, 0);
    expect(images).toBeCloseTo(10_000, 6);
  });

  it("is unknown without times or with one step", () => {
    expect(paceOf([])).toEqual([]);
    expect(paceOf([step(0, 5)])).toEqual([]);
    expect(
      paceOf([
        { ...step(0, 0), time: null },
        { ...step(1, 0), time: null },
      ]),
    ).toEqual([]);
  });
});
