/**
 * Counter-based random numbers: Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel Random Numbers: As Easy as 1, 2, 3,
 * SC'11). A draw depends on its key and counter alone, so that any worker can make any draw, in any order.
 *
 * Only integer operations and + - * on float64 are used: the bits are the same on every machine.
 */

/** What a stream is for: the first counter word keeps streams of different purposes apart. */
export const DOMAIN = { deal: 1, order: 2, augmentation: 3, dropout: 4, initialWeights: 5, fingerprint: 6, synthetic: 7, mixing: 8 } as const;
export type Domain = (typeof DOMAIN)[keyof typeof DOMAIN];

const M0 = 0xd2511f53;
const M1 = 0xcd9e8d57;
const W0 = 0x9e3779b9;
const W1 = 0xbb67ae85;

/** Upper 32 bits of the product of two unsigned 32-bit integers. */
function mulHigh(a: number, b: number): number {
  const aHigh = a >>> 16;
  const aLow = a & 0xffff;
  const bHigh = b >>> 16;
  const bLow = b & 0xffff;
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16);
  const cross = aLow * bHigh + (middle & 0xffff);
  return (aHigh * bHigh + Math.floor(middle / 65536) + Math.floor(cross / 65536)) >>> 0;
}

/** One block of Philox4x32-10: four counter words and two key words give four words, written to `out`. */
export function philox(out: Uint32Array, c0: number, c1: number, c2: number, c3: number, k0: number, k1: number): void {
  let [a, b, c, d] = [c0 >>> 0, c1 >>> 0, c2 >>> 0, c3 >>> 0];
  let keyA = k0 >>> 0;
  let keyB = k1 >>> 0;
  for (let round = 0; round < 10; round++) {
    const highA = mulHigh(M0, a);
    const lowA = Math.imul(M0, a) >>> 0;
    const highC = mulHigh(M1, c);
    const lowC = Math.imul(M1, c) >>> 0;
    a = (highC ^ b ^ keyA) >>> 0;
    b = lowC;
    c = (highA ^ d ^ keyB) >>> 0;
    d = lowA;
    keyA = (keyA + W0) >>> 0;
    keyB = (keyB + W1) >>> 0;
  }
  out[0] = a;
  out[1] = b;
  out[2] = c;
  out[3] = d;
}

/** A sequence of draws, keyed by (seed, domain, a, b): equal keys give equal sequences. */
export class Stream {
  private readonly block = new Uint32Array(4);
  private index = 4;
  private counter = 0;
  private readonly seed: number;
  private readonly domain: number;
  private readonly a: number;
  private readonly b: number;
  private readonly c: number;

  constructor(seed: number, domain: Domain, a = 0, b = 0, c = 0) {
    this.seed = seed;
    this.domain = domain;
    this.a = a;
    this.b = b;
    this.c = c;
  }

  /** Uniform over all unsigned 32-bit integers. */
  uint32(): number {
    if (this.index === 4) {
      philox(this.block, this.counter++, this.a, this.b, this.c, this.seed, this.domain);
      this.index = 0;
    }
    return this.block[this.index++]!;
  }

  /** Uniform in [0, 1), a multiple of 2^-24: exact as float32. */
  uniform(): number {
    return (this.uint32() >>> 8) * 2 ** -24;
  }

  /** Uniform in [low, high). */
  between(low: number, high: number): number {
    return low + (high - low) * this.uniform();
  }

  /** Uniform over 0 .. below - 1, without bias (rejection). */
  integer(below: number): number {
    const limit = 2 ** 32 - (2 ** 32 % below);
    for (;;) {
      const word = this.uint32();
      if (word < limit) return word % below;
    }
  }

  /**
   * Mean 0, variance 1, close to normal: the centred sum of twelve uniform numbers (Irwin-Hall), cut off at 6. No
   * logarithm and no cosine, whose last bits differ between machines.
   */
  normal(): number {
    let sum = 0;
    for (let i = 0; i < 12; i++) sum += this.uniform();
    return sum - 6;
  }

  /** Permutes `items` in place (Fisher and Yates). */
  shuffle(items: Int32Array | number[]): void {
    for (let i = items.length - 1; i > 0; i--) {
      const j = this.integer(i + 1);
      const held = items[i]!;
      items[i] = items[j]!;
      items[j] = held;
    }
  }
}
