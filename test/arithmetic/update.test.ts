import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { biasCorrection, emaDecay } from "../../worker/arithmetic/coefficients.ts";
import * as oracle from "./reference.ts";
import { anyFloat, words } from "./reference.ts";
import { Bench } from "./support.ts";

const bench = new Bench();
const { arithmetic } = bench;
const f = Math.fround;
const rows = fc.array(fc.tuple(anyFloat(), anyFloat(), anyFloat(), anyFloat()), { maxLength: 53 });
const column = (table: readonly (readonly number[])[], index: number) => table.map((row) => row[index]!);

const sgdSettings = fc.record({
  learningRate: fc.double({ min: 0, max: 1, noNaN: true }),
  momentum: fc.constantFrom(0, 0.9, 0.95),
  nesterov: fc.boolean(),
  weightDecay: fc.constantFrom(0, 5e-4, 0.1),
  inverseCount: fc.constantFrom(1, 1 / 3, 1 / 128),
});

describe("SGD", () => {
  it("rounds every operation, in the documented order", () => {
    fc.assert(
      fc.property(rows, sgdSettings, (table, settings) => {
        const [w, m, g] = [0, 1, 2].map((index) => bench.put(index, column(table, index))) as [number, number, number];
        arithmetic.sgd(w, m, g, table.length, settings);
        const expected = table.map(([weight, moment, gradient]) =>
          oracle.sgd({ w: weight, m: moment }, gradient, settings),
        );
        expect(words(bench.floats(0, table.length))).toEqual(words(expected.map((state) => state.w)));
        expect(words(bench.floats(1, table.length))).toEqual(words(expected.map((state) => state.m)));
      }),
      { numRuns: 400 },
    );
  });

  it("takes three steps as torch.optim.SGD documents them", () => {
    // w = 1, constant gradient 0.5, lr 0.1, momentum 0.5, Nesterov, no decay, by hand in powers of two:
    // m: 0.5, 0.75, 0.875; step: 0.75, 0.875, 0.9375.
    const settings = { learningRate: 0.125, momentum: 0.5, nesterov: true, weightDecay: 0, inverseCount: 0.25 };
    const [w, m, g] = [bench.put(0, [1]), bench.put(1, [0]), bench.put(2, [2])];
    for (let i = 0; i < 3; i++) arithmetic.sgd(w, m, g, 1, settings);
    expect(bench.floats(0, 1)[0]).toBe(1 - 0.125 * (0.75 + 0.875 + 0.9375));
    expect(bench.floats(1, 1)[0]).toBe(0.875);
  });

  it("leaves padding at zero", () => {
    const settings = { learningRate: 0.1, momentum: 0.9, nesterov: true, weightDecay: 5e-4, inverseCount: 1 / 7 };
    for (const index of [0, 1, 2]) bench.put(index, Array(32).fill(0));
    arithmetic.sgd(bench.at(0), bench.at(1), bench.at(2), 32, settings);
    expect(words(bench.floats(0, 32))).toEqual(Array(32).fill(0));
  });
});

describe("AdamW", () => {
  const settings = {
    learningRate: 1e-3,
    beta1: 0.9,
    beta2: 0.999,
    epsilon: 1e-8,
    weightDecay: 0.05,
    inverseCount: 1 / 96,
  };
  const corrections = (t: number) => ({
    biasCorrection1: biasCorrection(settings.beta1, t),
    biasCorrection2: biasCorrection(settings.beta2, t),
  });

  it("rounds every operation, in the documented order", () => {
    fc.assert(
      fc.property(rows, fc.constantFrom(1, 2, 3), (table, t) => {
        const put = [0, 1, 2, 3].map((index) => bench.put(index, column(table, index)));
        const [w, m, v, g] = put as [number, number, number, number];
        arithmetic.adamw(w, m, v, g, table.length, { ...settings, ...corrections(t) });
        const expected = table.map((row) => oracle.adamw({ w: row[0], m: row[1], v: row[2] }, row[3], settings, t));
        expect(words(bench.floats(0, table.length))).toEqual(words(expected.map((state) => state.w)));
        expect(words(bench.floats(1, table.length))).toEqual(words(expected.map((state) => state.m)));
        expect(words(bench.floats(2, table.length))).toEqual(words(expected.map((state) => state.v)));
      }),
      { numRuns: 400 },
    );
  });

  it("moves by the learning rate in the first step, whatever the gradient's size", () => {
    const [w, m, v, g] = [bench.put(0, [0, 0]), bench.put(1, [0, 0]), bench.put(2, [0, 0]), bench.put(3, [96, -9600])];
    arithmetic.adamw(w, m, v, g, 2, { ...settings, ...corrections(1) });
    expect(bench.floats(0, 2)[0]).toBeCloseTo(-1e-3, 8);
    expect(bench.floats(0, 2)[1]).toBeCloseTo(1e-3, 8);
  });

  it("corrects the bias with powers by multiplication", () => {
    expect(biasCorrection(0.9, 1)).toBe(1 - 0.9);
    expect(biasCorrection(0.5, 10)).toBe(1 - 2 ** -10);
    expect(biasCorrection(0.9, 3)).toBe(1 - 0.9 * (0.9 * 0.9));
    expect(biasCorrection(0.999, 100_000)).toBeCloseTo(1, 12);
  });
});

describe("averages", () => {
  it("of the weights keep a fixed point and move by their share", () => {
    fc.assert(
      fc.property(rows, fc.constantFrom(0, 0.5, 0.998), (table, decay) => {
        const [e, w] = [bench.put(0, column(table, 0)), bench.put(1, column(table, 1))];
        arithmetic.ema(e, w, table.length, decay);
        const expected = table.map(([mean, weight]) => f(mean + f(f(1 - decay) * f(weight - mean))));
        expect(words(bench.floats(0, table.length))).toEqual(words(expected));
      }),
      { numRuns: 200 },
    );
    bench.put(0, [0.1, 3]);
    bench.put(1, [0.1, 3]);
    arithmetic.ema(bench.at(0), bench.at(1), 2, 0.998);
    expect([...bench.floats(0, 2)]).toEqual([f(0.1), 3]);
    expect([emaDecay(0.998, 1), emaDecay(0.998, 20), emaDecay(0.998, 1e6)]).toEqual([1 / 21, 0.5, 0.998]);
  });

  it("of the batch statistics weigh the batch by one minus momentum", () => {
    fc.assert(
      fc.property(rows, fc.constantFrom(0.9, 0.99), fc.constantFrom(1 / 128, 1 / 3), (table, momentum, inverse) => {
        const [s, sums] = [bench.put(0, column(table, 0)), bench.put(1, column(table, 1))];
        arithmetic.movingStatistics(s, sums, table.length, momentum, inverse);
        const expected = table.map(([state, total]) =>
          f(f(f(momentum) * state) + f(f(1 - momentum) * f(total * f(inverse)))),
        );
        expect(words(bench.floats(0, table.length))).toEqual(words(expected));
      }),
      { numRuns: 200 },
    );
  });
});
