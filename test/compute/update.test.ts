import { describe, expect, it } from "vitest";
import { BLOCK, gapsOf, layoutOf, TAIL, type TensorSpec } from "../../shared/model/layout.ts";
import { hex64, loadArithmeticSync } from "../../worker/arithmetic/arithmetic.ts";
import { biasCorrection, emaDecay } from "../../worker/arithmetic/coefficients.ts";
import { Update } from "../../worker/compute/update.ts";
import { createMemory, planMemory } from "../../worker/memory/plan.ts";
import * as oracle from "../arithmetic/reference.ts";
import { words } from "../arithmetic/reference.ts";

/** Runs of one treatment that begin and end inside tiles, span several, and leave gaps; statistics of more than one block. */
const tensors: readonly TensorSpec[] = [
  { name: "a/kernel", shape: [9001], role: "kernel" },
  { name: "a/gamma", shape: [33], role: "gamma" },
  { name: "a/beta", shape: [33], role: "beta" },
  { name: "b/kernel", shape: [130], role: "kernel" },
  { name: "b/bias", shape: [5000], role: "bias" },
  { name: "c/kernel", shape: [3], role: "kernel" },
  { name: "a/mean", shape: [1500], role: "movingMean" },
  { name: "a/variance", shape: [1500], role: "movingVariance" },
];
const layout = layoutOf(tensors, 1 << 20);
const SAMPLES = 24;
const f = Math.fround;

function bench(kind: "sgd" | "adamw", ema: boolean) {
  const plan = planMemory({ layout, shards: 2, optimizer: kind, ema, loaderSlots: 1, loaderBytes: 4, receiveBytes: 4 });
  const memory = createMemory(plan);
  const arithmetic = loadArithmeticSync(memory);
  const optimizer =
    kind === "sgd"
      ? ({ kind, momentum: 0.9, nesterov: true, weightDecay: 5e-4 } as const)
      : ({ kind, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.05 } as const);
  const model = { name: "test", options: {}, sourceSha256: null, statisticsMomentum: 0.9 };
  const recipe = { optimizer, ema: ema ? { decay: 0.998 } : null, learningRates: [0.1, 0.05, 0.02], model };
  const update = new Update(arithmetic, plan, layout, recipe);
  const vector = (address: number, floats: number) => new Float32Array(memory.buffer, address, floats);
  const image = vector(plan.state.address, plan.state.floats);
  const [reduced] = plan.reduced;
  const gradient = vector(reduced.address, reduced.floats);
  const drawn = (values: Float32Array, seed: number) => {
    for (let i = 0; i < values.length; i++) values[i] = ((((i + seed) * 2654435761) >>> 0) / 2 ** 32 - 0.5) * 3;
  };
  for (const [seed, values] of [image, gradient].entries()) drawn(values, 7 + seed);
  for (const address of plan.state.slots) {
    const slot = vector(address, layout.trainableFloats);
    for (let i = 0; i < slot.length; i++) slot[i] = Math.abs(slot[i]!);
  }
  // Padding is zero everywhere.
  for (const { from, to } of gapsOf(layout)) if (to <= layout.trainableFloats) gradient.fill(0, from, to);
  const summed = () => arithmetic.blockHashes(reduced.address, reduced.floats, reduced.table);
  summed();
  return { plan, arithmetic, optimizer, update, image, vector, reduced, gradient, summed };
}

type Bench = ReturnType<typeof bench>;

/** One step on plain numbers, rounded at every operation, element by element. */
function expectedState({ plan, optimizer, image, vector, gradient }: Bench, step: number, rate: number): Float32Array {
  const result = image.slice();
  const at = (address: number) => (address - plan.state.address) / 4;
  const { weights, slots, ema } = plan.state;
  const inverseCount = 1 / SAMPLES;
  layout.trainable.forEach((tensor, i) => {
    const end = layout.trainable[i + 1]?.offset ?? layout.trainableFloats;
    const weightDecay = tensor.decay ? optimizer.weightDecay : 0;
    for (let j = tensor.offset; j < end; j++) {
      const w = result[at(weights) + j]!;
      const m = result[at(slots[0]!) + j]!;
      if (optimizer.kind === "sgd") {
        const settings = { ...optimizer, learningRate: rate, weightDecay, inverseCount };
        const next = oracle.sgd({ w, m }, gradient[j]!, settings);
        result[at(weights) + j] = next.w;
        result[at(slots[0]!) + j] = next.m;
      } else {
        const settings = { ...optimizer, learningRate: rate, weightDecay, inverseCount };
        const next = oracle.adamw({ w, m, v: result[at(slots[1]!) + j]! }, gradient[j]!, settings, step + 1);
        result[at(weights) + j] = next.w;
        result[at(slots[0]!) + j] = next.m;
        result[at(slots[1]!) + j] = next.v;
      }
    }
  });
  for (let j = layout.trainableFloats; j < layout.stateFloats; j++) {
    const state = result[at(weights) + j]!;
    result[at(weights) + j] = f(f(f(0.9) * state) + f(f(1 - 0.9) * f(gradient[j]! * f(inverseCount))));
  }
  if (ema !== null) {
    const share = f(1 - emaDecay(0.998, step + 1));
    for (let j = 0; j < layout.stateFloats; j++) {
      const mean = vector(ema, layout.stateFloats)[j]!;
      result[at(ema) + j] = f(mean + f(share * f(result[at(weights) + j]! - mean)));
    }
  }
  return result;
}

describe.each([
  ["sgd", true],
  ["sgd", false],
  ["adamw", true],
] as const)("the update by %s (average: %s), tile by tile", (kind, ema) => {
  it("is that of single elements, and leaves the hashes of the new state", () => {
    const b = bench(kind, ema);
    for (const [step, rate] of [0.1, 0.05, 0.02].entries()) {
      const expected = expectedState(b, step, rate);
      const examined = b.update.examine(b.reduced);
      const result = b.update.apply(step, b.reduced.address, SAMPLES, examined.squares);
      expect(result.applied).toBe(true);
      expect(words(b.image)).toEqual(words(expected));
      const { address, floats, mainTable, entries } = b.plan.state;
      b.arithmetic.blockHashes(address, floats, mainTable);
      expect(b.update.stateHash()).toBe(hex64(b.arithmetic.hashTable(mainTable, entries)));
    }
    expect(biasCorrection(0.9, 1)).toBeCloseTo(0.1);
  });
});

describe("a reduced vector", () => {
  it("is examined by one pass: its hash, its norm, and whether it is still what was summed", () => {
    const b = bench("sgd", true);
    const { reduced, arithmetic } = b;
    const { sound, hash, squares } = b.update.examine(reduced);
    expect(sound).toBe(true);
    expect(hash).toBe(hex64(arithmetic.hashTable(reduced.table, reduced.entries)));
    expect(squares).toBe(arithmetic.sumOfSquares(reduced.address, layout.trainableFloats));
    for (const damaged of [3, layout.trainableFloats - 1, layout.trainableFloats + 5, reduced.floats - 1]) {
      const kept = b.gradient[damaged]!;
      b.gradient[damaged] = kept + 1;
      expect(b.update.examine(reduced).sound, `float ${damaged}`).toBe(false);
      b.gradient[damaged] = kept;
    }
    expect(b.update.examine(reduced).sound).toBe(true);
  });

  it.each([
    ["a gradient", 8999, Number.NaN],
    ["a gradient", 0, Number.POSITIVE_INFINITY],
    ["a statistic", layout.trainableFloats + 1499, Number.NEGATIVE_INFINITY],
    ["the last statistic", layout.statistics[1]!.offset + 1499, Number.NaN],
    ["the loss", layout.stateFloats + TAIL.loss, Number.NaN],
  ])("that is not finite in %s (float %i) changes nothing, and the state is hashed all the same", (_, at, value) => {
    const b = bench("sgd", true);
    b.gradient[at] = value;
    b.summed();
    const before = b.image.slice();
    const { squares, sound } = b.update.examine(b.reduced);
    expect(sound).toBe(true);
    expect(b.update.apply(0, b.reduced.address, SAMPLES, squares).applied).toBe(false);
    expect(words(b.image)).toEqual(words(before));
    const { address, floats, mainTable, entries } = b.plan.state;
    b.arithmetic.blockHashes(address, floats, mainTable);
    expect(b.update.stateHash()).toBe(hex64(b.arithmetic.hashTable(mainTable, entries)));
  });

  it("whose elements are all as large as floats can be has a finite norm", () => {
    const b = bench("sgd", false);
    b.gradient.fill(f(3.4028234663852886e38), 0, layout.trainableFloats);
    b.summed();
    const { squares } = b.update.examine(b.reduced);
    expect(Number.isFinite(squares)).toBe(true);
    expect(squares / layout.trainableFloats / 3.4028234663852886e38 ** 2).toBeCloseTo(1, 10);
  });
});

describe("the gaps of a gradient vector", () => {
  it("are whatever no trainable tensor covers", () => {
    const covered = new Uint8Array(layout.vectorFloats);
    for (const { offset, size } of layout.trainable) covered.fill(1, offset, offset + size);
    for (const { from, to } of gapsOf(layout)) for (let i = from; i < to; i++) covered[i]! += 2;
    expect(covered.every((count) => count === 1 || count === 2)).toBe(true);
    expect(layout.statisticsFloats / BLOCK).toBeGreaterThan(1);
  });
});
