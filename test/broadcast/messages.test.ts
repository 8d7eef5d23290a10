import { describe, expect, it } from "vitest";
import { broadcastDocument } from "../../shared/broadcast/document.ts";
import { EpochSum, stepMessage, workerMessage } from "../../shared/broadcast/messages.ts";
import {
  broadcastJsonSchemas,
  epochMessageSchema,
  type StepMessage,
  stepMessageSchema,
  workerMessageSchema,
} from "../../shared/broadcast/schema.ts";
import { parseSubject, subjectOf, subjectsOf, workerSubjectOf } from "../../shared/broadcast/subjects.ts";
import { configOf, entryOf } from "./support.ts";

describe("subjects", () => {
  it("are versioned and kept apart by run", () => {
    expect(subjectOf("20260102-a1", "step")).toBe("lockstep.v1.20260102-a1.step");
    expect(workerSubjectOf("r", "worker-0")).toBe("lockstep.v1.r.worker.worker-0");
    expect(subjectsOf("r")).toBe("lockstep.v1.r.>");
    expect(subjectsOf(null)).toBe("lockstep.v1.>");
  });

  it("hold no character that NATS gives a meaning", () => {
    for (const name of ["a.b", "a b", "*", ">", "a\tb", "é", ""]) {
      const token = workerSubjectOf("run.1", name).split(".").slice(2);
      expect(token).toHaveLength(3);
      expect(token.join("")).toMatch(/^[A-Za-z0-9_-]+$/);
    }
  });

  it("are read back, and others are not ours", () => {
    expect(parseSubject("lockstep.v1.r.epoch")).toEqual({ run: "r", kind: "epoch" });
    expect(parseSubject("lockstep.v1.r.worker.w")).toEqual({ run: "r", kind: "worker" });
    for (const other of ["lockstep.v2.r.step", "lockstep.v1.r", "lockstep.v1.r.step.x", "lockstep.v1.r.worker", "x"]) {
      expect(parseSubject(other), other).toBeNull();
    }
  });
});

describe("messages", () => {
  it("say what a step was", () => {
    const message = stepMessage(entryOf(3), "aaaaaaaaaaaaaaaa", configOf("r"));
    expect(stepMessageSchema.parse(message)).toEqual({
      run: "r",
      view: "1.2",
      step: 3,
      epoch: 1,
      from: "aaaaaaaaaaaaaaaa",
      loss: 0.5,
      // 0 + 1 + 2 + 3 of 4 x 8.
      accuracy: 0.1875,
      images: 32,
      learningRate: 0.375,
      gradientNorm: 2,
      applied: true,
      lineage: "11".repeat(32),
      shards: { aaaaaaaaaaaaaaaa: [0, 1, 2], bbbbbbbbbbbbbbbb: [3] },
    });
  });

  it("stay JSON when loss and norm are not finite", () => {
    const entry = entryOf(0, { loss: Number.NaN, gradientNorm: Number.POSITIVE_INFINITY, applied: false });
    const message = JSON.parse(JSON.stringify(stepMessage(entry, "a", configOf("r")))) as StepMessage;
    expect([message.loss, message.gradientNorm, message.applied]).toEqual([null, null, false]);
  });

  it("say how a worker is doing", () => {
    const progress = {
      view: { term: 2, number: 7 },
      step: 5,
      phase: "compute",
      stepMillis: 3,
      level: true,
      shardMillis: 250,
      images: 640,
      residentBytes: 1e9,
      peers: [],
    } as const;
    const message = workerMessage("r", "w", "a", progress, new Date("2026-01-02T03:04:05Z"));
    expect(workerMessageSchema.parse(message)).toMatchObject({
      view: "2.7",
      shardSeconds: 0.25,
      time: "2026-01-02T03:04:05.000Z",
    });
  });

  it("are what the documentation says (write it with vitest --update)", async () => {
    await expect(broadcastDocument()).toMatchFileSnapshot("../../shared/broadcast/README.md");
  });

  it("have a published schema whose fields all say what they are or need no words", () => {
    for (const [kind, schema] of Object.entries(broadcastJsonSchemas())) {
      expect(schema, kind).toMatchObject({
        type: "object",
        description: expect.stringContaining("lockstep.v1.<run id>"),
      });
    }
  });
});

describe("an epoch", () => {
  const messages = (steps: readonly number[], change = {}) =>
    steps.map((step) => stepMessage(entryOf(step, change), "a", configOf("r", 3)));

  it("is the weighted mean of its steps", () => {
    const sum = new EpochSum(3);
    const [first, second, third] = messages([3, 4, 5]) as [StepMessage, StepMessage, StepMessage];
    expect(sum.add({ ...first, loss: 1, images: 10, accuracy: 0.5 })).toBeNull();
    expect(sum.add({ ...second, loss: 4, images: 20, accuracy: 0.25 })).toBeNull();
    const epoch = sum.add({ ...third, loss: 0, images: 10, accuracy: 1 });
    // (10 + 80 + 0) / 40 and (5 + 5 + 10) / 40.
    expect(epochMessageSchema.parse(epoch)).toMatchObject({ epoch: 1, step: 5, loss: 2.25, accuracy: 0.5, images: 40 });
  });

  it("is not told by whoever joined in the middle of it", () => {
    const sum = new EpochSum(3);
    const told = messages([1, 2, 3, 4, 5, 6]).map((message) => sum.add(message)?.epoch ?? null);
    expect(told).toEqual([null, null, null, null, 1, null]);
  });

  it("counts a repeated step once and passes over an epoch with a gap", () => {
    const sum = new EpochSum(3);
    const told = messages([0, 1, 1, 0, 1, 2, 3, 5, 6, 7, 8]).map((message) => sum.add(message)?.images ?? null);
    expect(told).toEqual([null, null, null, null, null, 96, null, null, null, null, 96]);
  });

  it("has no loss when a step's was not finite", () => {
    const sum = new EpochSum(3);
    const told = [...messages([0]), ...messages([1], { loss: Number.NaN }), ...messages([2])].map((m) => sum.add(m));
    expect(told[2]).toMatchObject({ epoch: 0, loss: null });
  });
});
