import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { anyFloat, bf16, sum, sumBf16, words } from "./reference.ts";
import { Bench } from "./support.ts";

const bench = new Bench();
const { arithmetic } = bench;
const pairs = fc.array(fc.tuple(anyFloat(), anyFloat()), { maxLength: 75 });
const column = (rows: readonly (readonly [number, number])[], index: 0 | 1) => rows.map((row) => row[index]);

describe("sums", () => {
  it.each([
    ["float32", "add", sum],
    ["bfloat16", "addBf16", sumBf16],
  ] as const)("round every addition to %s, whatever the values", (_, name, oracle) => {
    fc.assert(
      fc.property(pairs, (rows) => {
        const [a, b] = [bench.put(1, column(rows, 0)), bench.put(2, column(rows, 1))];
        arithmetic[name](bench.at(0), a, b, rows.length);
        const expected = rows.map(([x, y]) => oracle(x, y));
        expect(words(bench.floats(0, rows.length))).toEqual(words(expected));
        arithmetic[name](a, a, b, rows.length);
        expect(words(bench.floats(1, rows.length))).toEqual(words(expected));
      }),
      { numRuns: 500 },
    );
  });

  it("write one NaN pattern, whichever operands made it", () => {
    const made = [
      [Number.NaN, 1],
      [Infinity, -Infinity],
      [-Infinity, Infinity],
      [Number.NaN, Number.NaN],
    ] as const;
    const patterns = [0xffc12345, 0x7f800001, 0xff800001];
    const n = made.length + patterns.length;
    bench.put(1, [...column(made, 0), ...patterns.map(() => 0)]);
    bench.put(2, column(made, 1));
    new Uint32Array(bench.memory.buffer, bench.at(2) + 4 * made.length, patterns.length).set(patterns);
    // Once in the vector part, once float by float.
    for (const count of [n, 16]) {
      arithmetic.add(bench.at(0), bench.at(1), bench.at(2), count);
      const bits = new Uint32Array(bench.memory.buffer, bench.at(0), n);
      expect([...bits].map((x) => x.toString(16))).toEqual(Array(n).fill("7fc00000"));
    }
  });

  it("keep denormals", () => {
    expect(arithmetic.keepsDenormals()).toBe(true);
    bench.put(1, [2 ** -149, 2 ** -127, -(2 ** -140)]);
    bench.put(2, [2 ** -149, -(2 ** -128), 2 ** -141]);
    arithmetic.add(bench.at(0), bench.at(1), bench.at(2), 3);
    expect([...bench.floats(0, 3)]).toEqual([2 ** -148, 2 ** -128, -(2 ** -141)]);
  });

  it("touch nothing beyond n", () => {
    for (const n of [0, 1, 3, 4, 15, 16, 17, 63]) {
      bench.put(0, Array(80).fill(7));
      arithmetic.add(bench.at(0), bench.at(1), bench.at(2), n);
      expect([...bench.floats(0, 80)].slice(n)).toEqual(Array(80 - n).fill(7));
    }
  });
});

describe("bfloat16", () => {
  it("rounds to nearest even", () => {
    const one = 2 ** -7; // Distance of neighbours just above 1.
    const cases = [
      [1 + one / 2, 1],
      [1 + (3 * one) / 2, 1 + 2 * one],
      [1 + one / 2 + 2 ** -23, 1 + one],
      [-(1 + (3 * one) / 2), -(1 + 2 * one)],
      [3.4028234663852886e38, Infinity],
      [-Infinity, -Infinity],
      [2 ** -149, 0],
      [0xffff * 2 ** -149, 0x10000 * 2 ** -149],
      [-0, -0],
    ] as const;
    bench.put(1, column(cases, 0));
    arithmetic.roundBf16(bench.at(0), bench.at(1), cases.length);
    expect([...bench.floats(0, cases.length)]).toEqual(column(cases, 1));
  });

  it("packs into two bytes what rounding gives, and unpacks it again", () => {
    fc.assert(
      fc.property(fc.array(anyFloat(), { maxLength: 70 }), (values) => {
        const n = values.length;
        bench.put(1, values);
        arithmetic.roundBf16(bench.at(0), bench.at(1), n);
        expect(words(bench.floats(0, n))).toEqual(words(values.map(bf16)));
        arithmetic.packBf16(bench.at(3), bench.at(1), n);
        expect([...new Uint16Array(bench.memory.buffer, bench.at(3), n)]).toEqual(
          words(values.map(bf16)).map((bits) => bits >>> 16),
        );
        arithmetic.unpackBf16(bench.at(4), bench.at(3), n);
        expect(words(bench.floats(4, n))).toEqual(words(bench.floats(0, n)));
      }),
      { numRuns: 300 },
    );
  });
});

describe("ranges", () => {
  it("are scaled, copied and zeroed", () => {
    const values = Array.from({ length: 37 }, (_, i) => i / 3);
    bench.put(1, values);
    arithmetic.scaleRange(bench.at(0), bench.at(1), 37, 0.1);
    expect([...bench.floats(0, 37)]).toEqual(values.map((x) => Math.fround(Math.fround(x) * Math.fround(0.1))));
    arithmetic.copy(bench.at(2), bench.at(1), 36 * 4);
    expect([...bench.floats(2, 36)]).toEqual([...bench.floats(1, 36)]);
    arithmetic.zero(bench.at(2), 35 * 4);
    expect([...bench.floats(2, 36)]).toEqual([...Array(35).fill(0), Math.fround(35 / 3)]);
  });

  it("are finite only without infinities and NaN, and their squares are summed in float64", () => {
    fc.assert(
      fc.property(fc.array(anyFloat(), { maxLength: 40 }), (values) => {
        bench.put(0, values);
        const finite = values.every(Number.isFinite);
        const squares = arithmetic.sumOfSquares(bench.at(0), values.length);
        expect(arithmetic.allFinite(bench.at(0), values.length)).toBe(finite);
        expect(Number.isFinite(squares)).toBe(finite);
        const exact = values.reduce((total, x) => total + x * x, 0);
        if (finite) expect(Math.abs(squares - exact)).toBeLessThanOrEqual(exact * 1e-14);
      }),
      { numRuns: 300 },
    );
  });

  it("have one order of the squares' sum", () => {
    const values = Array.from({ length: 61 }, (_, i) => Math.fround(Math.sin(i) * 10 ** (i % 7)));
    const lanes = Array<number>(8).fill(0);
    values.slice(0, 56).forEach((x, i) => {
      lanes[i % 8]! += x * x;
    });
    const [l0, l1, l2, l3, l4, l5, l6, l7] = lanes as [number, number, number, number, number, number, number, number];
    const whole = l0 + l2 + (l4 + l6) + (l1 + l3 + (l5 + l7));
    bench.put(0, values);
    expect(arithmetic.sumOfSquares(bench.at(0), 61)).toBe(values.slice(56).reduce((sum, x) => sum + x * x, whole));
  });
});
