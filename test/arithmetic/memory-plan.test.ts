import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { BLOCK, layoutOf, type TensorSpec } from "../../shared/model/layout.ts";
import { finishingOrder, maximalNodes } from "../../shared/plan/tree.ts";
import { controlOf } from "../../worker/memory/control.ts";
import { createMemory, growReceive, type MemoryPlan, nodeBuffers, planMemory } from "../../worker/memory/plan.ts";

const tensors: TensorSpec[] = [
  { name: "conv/kernel", shape: [3, 3, 3, 40], role: "kernel" },
  { name: "bn/gamma", shape: [40], role: "gamma" },
  { name: "bn/mean", shape: [40], role: "movingMean" },
];
const layout = layoutOf(tensors, 4096);
const needs = {
  layout,
  shards: 8,
  optimizer: "sgd",
  ema: true,
  loaderSlots: 3,
  loaderBytes: 1000,
  receiveBytes: 70_000,
} as const;

const piecesOf = (plan: MemoryPlan) => [
  plan.control,
  { address: plan.state.weights, bytes: layout.stateFloats * 4 },
  ...plan.state.slots.map((address) => ({ address, bytes: layout.trainableFloats * 4 })),
  ...(plan.state.ema === null ? [] : [{ address: plan.state.ema, bytes: layout.stateFloats * 4 }]),
  { address: plan.state.mainTable, bytes: plan.state.entries * 8 },
  plan.snapshot,
  { address: plan.checkTable, bytes: plan.reduced[0].entries * 8 },
  ...plan.loader,
  plan.receive,
  ...[plan.state, ...plan.nodes, ...plan.reduced].map(({ table, entries }) => ({ address: table, bytes: entries * 8 })),
  ...[...plan.nodes, ...plan.reduced],
];

describe("the memory plan", () => {
  it("overlaps nowhere and stays inside the memory, whatever is asked for", () => {
    const optimizer = fc.constantFrom("sgd" as const, "adamw" as const);
    const loaderBytes = fc.integer({ min: 1, max: 200_000 });
    const receiveBytes = fc.integer({ min: 0, max: 200_000 });
    fc.assert(
      fc.property(
        fc.record({ shards: fc.integer({ min: 1, max: 64 }), optimizer, ema: fc.boolean(), loaderBytes, receiveBytes }),
        (asked) => {
          const plan = planMemory({ layout, loaderSlots: 2, ...asked });
          const pieces = piecesOf(plan).sort((a, b) => a.address - b.address || a.bytes - b.bytes);
          pieces.forEach((piece, i) => {
            expect(piece.address % 4096).toBe(0);
            expect(piece.address).toBeGreaterThanOrEqual(i === 0 ? 0 : pieces[i - 1]!.address + pieces[i - 1]!.bytes);
            expect(piece.address + piece.bytes).toBeLessThanOrEqual(plan.totalBytes);
          });
          expect(Math.max(...pieces.map((piece) => piece.address))).toBe(plan.receive.address);
        },
      ),
    );
  });

  it("keeps the state as one image: weights, slots, moving average", () => {
    const { state, snapshot } = planMemory({ ...needs, optimizer: "adamw" });
    const [weights, slot] = [layout.stateFloats * 4, layout.trainableFloats * 4];
    expect(state.weights).toBe(state.address);
    expect(state.slots).toEqual([state.address + weights, state.address + weights + slot]);
    expect(state.ema).toBe(state.address + weights + 2 * slot);
    expect([state.bytes, snapshot.bytes]).toEqual([2 * weights + 2 * slot, 2 * weights + 2 * slot]);
    expect(state.entries).toBe(state.bytes / (4 * BLOCK));
  });

  it("has buffers for any range of shards: nodes, stack, gradient and one to spare", () => {
    for (let shards = 1; shards <= 40; shards++) {
      let most = 0;
      for (let from = 0; from < shards; from++) {
        for (let to = from + 1; to <= shards; to++) {
          let held = 0;
          for (const node of maximalNodes(shards, { from, to })) {
            const size = node.to - node.from;
            const singles = Array.from({ length: size }, (_, i) => ({ from: i, to: i + 1 }));
            for (const operation of finishingOrder(size, singles)) {
              held += operation.kind === "push" ? 1 : -1;
              most = Math.max(most, held);
            }
          }
        }
      }
      const buffers = nodeBuffers(shards);
      expect(buffers).toBeGreaterThanOrEqual(most + 1);
      // Exact for powers of two, never more than the documented bound.
      if (Number.isInteger(Math.log2(shards))) expect(buffers).toBe(most + 1);
      if (shards > 4) expect(buffers).toBeLessThanOrEqual(2 * Math.ceil(Math.log2(shards)));
    }
  });

  it("becomes a shared memory whose last region grows in place", () => {
    const plan = planMemory(needs);
    const memory = createMemory(plan);
    expect(memory.buffer).toBeInstanceOf(SharedArrayBuffer);
    expect(memory.buffer.byteLength).toBe(plan.totalBytes);
    const weights = new Float32Array(memory.buffer, plan.state.weights, 4);
    weights[0] = 42;
    const grown = growReceive(memory, plan, 1_000_000);
    expect(grown.address).toBe(plan.receive.address);
    expect(grown.bytes).toBeGreaterThanOrEqual(1_000_000);
    expect(memory.buffer.byteLength).toBe(grown.address + grown.bytes);
    weights[1] = 43;
    expect([...new Float32Array(memory.buffer, plan.state.weights, 2)]).toEqual([42, 43]);
    expect(growReceive(memory, plan, 10)).toEqual(grown);
    const { commitWord, counters } = controlOf(memory, plan.control.address);
    expect(commitWord.read()).toEqual({ phase: "closed", viewTag: 0, step: 0 });
    counters.add("images", 3);
    counters.add("images", 4);
    expect(counters.read()).toMatchObject({ images: 7, step: 0 });
  });

  it("says when a worker would need more than one memory holds", () => {
    const large = layoutOf([{ name: "dense/kernel", shape: [80_000_000], role: "kernel" }], 4e6);
    expect(() => planMemory({ ...needs, layout: large })).toThrow(
      expect.objectContaining({ code: "LS_MEMORY_TOO_LARGE" }),
    );
    const memory = createMemory(planMemory(needs));
    expect(() => growReceive(memory, planMemory(needs), 2 ** 32)).toThrow(
      expect.objectContaining({ code: "LS_MEMORY_TOO_LARGE" }),
    );
  });
});
