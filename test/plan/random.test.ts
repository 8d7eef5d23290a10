import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { exp, ln } from "../../shared/plan/exact-math.ts";
import { philox as philoxBlock } from "../../shared/plan/philox.ts";
import { DOMAIN, Stream } from "../../shared/plan/random.ts";

const philox = (counter: readonly number[], key: readonly number[]) => {
  const out = new Uint32Array(4);
  const [c0, c1, c2, c3] = counter as [number, number, number, number];
  philoxBlock(out, c0, c1, c2, c3, key[0]!, key[1]!);
  return [...out];
};
const stream = (seed: number, domain: keyof typeof DOMAIN, a = 0, b = 0, c = 0) =>
  new Stream(seed, DOMAIN[domain], a, b, c);

describe("philox", () => {
  it("gives the known answers that Random123 publishes (tests/kat_vectors, philox4x32 10)", () => {
    expect(philox([0, 0, 0, 0], [0, 0])).toEqual([0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
    const ones = 0xffffffff;
    expect(philox([ones, ones, ones, ones], [ones, ones])).toEqual([0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
    expect(philox([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0])).toEqual([
      0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1,
    ]);
  });

  it("agrees with the definition in 64-bit integers", () => {
    const word = fc.nat({ max: 0xffffffff });
    fc.assert(
      fc.property(fc.tuple(word, word, word, word), fc.tuple(word, word), (counter, key) => {
        expect(philox(counter, key)).toEqual(philoxByBigInt(counter, key));
      }),
    );
  });
});

function philoxByBigInt(counter: readonly number[], key: readonly number[]): number[] {
  let x = counter.map(BigInt);
  let k = key.map(BigInt);
  for (let round = 0; round < 10; round++) {
    const p0 = 0xd2511f53n * x[0]!;
    const p1 = 0xcd9e8d57n * x[2]!;
    x = [(p1 >> 32n) ^ x[1]! ^ k[0]!, p1 & 0xffffffffn, (p0 >> 32n) ^ x[3]! ^ k[1]!, p0 & 0xffffffffn];
    k = [(k[0]! + 0x9e3779b9n) & 0xffffffffn, (k[1]! + 0xbb67ae85n) & 0xffffffffn];
  }
  return x.map(Number);
}

describe("a stream", () => {
  it("is the words of consecutive counters under its key", () => {
    const draws = stream(0xa4093822, "order", 7, 8, 9);
    const words = Array.from({ length: 8 }, () => draws.uint32());
    expect(words).toEqual([...philox([0, 7, 8, 9], [0xa4093822, 2]), ...philox([1, 7, 8, 9], [0xa4093822, 2])]);
  });

  it("is another one for every other seed, domain and name", () => {
    const first = [
      stream(1, "order", 0, 0, 0),
      stream(2, "order", 0, 0, 0),
      stream(1, "deal", 0, 0, 0),
      stream(1, "order", 1, 0, 0),
      stream(1, "order", 0, 1, 0),
      stream(1, "order", 0, 0, 1),
    ].map((draws) => draws.uint32());
    expect(new Set(first).size).toBe(first.length);
  });

  it("draws uniforms in [0, 1) that float32 holds exactly, with the mean and variance of the distribution", () => {
    const draws = stream(3, "augmentation");
    const n = 100_000;
    let sum = 0;
    let squares = 0;
    for (let i = 0; i < n; i++) {
      const u = draws.uniform();
      if (!(u >= 0 && u < 1 && Math.fround(u) === u)) throw new Error(`${u}`);
      sum += u;
      squares += u * u;
    }
    // Five standard errors: sqrt(1/12/n) and sqrt(4/45/n).
    expect(Math.abs(sum / n - 1 / 2)).toBeLessThan(5 * Math.sqrt(1 / 12 / n));
    expect(Math.abs(squares / n - 1 / 3)).toBeLessThan(5 * Math.sqrt(4 / 45 / n));
  });

  it("draws normals with the moments of the distribution", () => {
    const draws = stream(4, "initialWeights");
    const n = 100_000;
    const moments = [0, 0, 0, 0];
    let within1 = 0;
    for (let i = 0; i < n; i++) {
      const x = draws.normal();
      for (let power = 1; power <= 4; power++) moments[power - 1]! += x ** power / n;
      if (Math.abs(x) < 1) within1 += 1 / n;
    }
    // Variances of the sample moments of a standard normal: 1, 2, 15, 96 over n.
    expect(Math.abs(moments[0]!)).toBeLessThan(5 * Math.sqrt(1 / n));
    expect(Math.abs(moments[1]! - 1)).toBeLessThan(5 * Math.sqrt(2 / n));
    expect(Math.abs(moments[2]!)).toBeLessThan(5 * Math.sqrt(15 / n));
    expect(Math.abs(moments[3]! - 3)).toBeLessThan(5 * Math.sqrt(96 / n));
    expect(Math.abs(within1 - 0.682689492)).toBeLessThan(5 * Math.sqrt(0.2166 / n));
  });

  it("draws integers below a bound without bias", () => {
    // 3 * 2^30 is the worst bound for a plain remainder: a third of the values would come twice as often.
    const draws = stream(5, "mixing");
    const bound = 3 * 2 ** 30;
    const n = 30_000;
    let lowest = 0;
    for (let i = 0; i < n; i++) if (draws.integer(bound) < 2 ** 30) lowest += 1;
    expect(Math.abs(lowest / n - 1 / 3)).toBeLessThan(5 * Math.sqrt(2 / 9 / n));
    expect(() => draws.integer(0)).toThrow(RangeError);
  });

  it("shuffles into every order equally often", () => {
    const counts = new Map<string, number>();
    const n = 24_000;
    for (let i = 0; i < n; i++) {
      const order = stream(6, "order", i).shuffle([0, 1, 2, 3]).join("");
      counts.set(order, (counts.get(order) ?? 0) + 1);
    }
    expect(counts.size).toBe(24);
    const chiSquare = [...counts.values()].reduce((sum, count) => sum + (count - 1000) ** 2 / 1000, 0);
    expect(chiSquare).toBeLessThan(49.7); // 99.9 % of chi-square with 23 degrees of freedom
  });
});

describe("exact logarithm and exponential", () => {
  it("agree with the engine's own within two units in the last place", () => {
    const positive = fc.double({ min: 1e-300, max: 1e300, noNaN: true });
    fc.assert(fc.property(positive, (x) => closeInUnits(ln(x), Math.log(x))));
    fc.assert(fc.property(fc.double({ min: 0.5, max: 2, noNaN: true }), (x) => closeInUnits(ln(x), Math.log(x))));
    fc.assert(fc.property(fc.double({ min: -690, max: 690, noNaN: true }), (x) => closeInUnits(exp(x), Math.exp(x))));
    expect(ln(1)).toBe(0);
    expect(exp(0)).toBe(1);
    expect(() => ln(0)).toThrow(RangeError);
  });
});

const closeInUnits = (a: number, b: number) => Math.abs(a - b) <= 3 * 2 ** -52 * Math.abs(b);
