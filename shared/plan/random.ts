import { ln } from "./exact-math.ts";
import { philox } from "./philox.ts";

/**
 * What a random number is for. The domain is one half of the generator's key and the seed the other, so that numbers of
 * different purposes never meet. Three more words (a, b, c) name the thing within the domain:
 *
 * | domain         | a                                      | b         | c     |
 * |----------------|----------------------------------------|-----------|-------|
 * | deal           | class                                  |           |       |
 * | order          | epoch                                  | shard     |       |
 * | augmentation   | epoch                                  | sample id |       |
 * | operations     | epoch                                  | sample id |       |
 * | dropout        | step                                   | shard     | layer |
 * | initialWeights | index of the tensor                    |           |       |
 * | fingerprint    | free to the fingerprint                |           |       |
 * | synthetic      | 0 training image, 1 test image, 2 order | image id  |       |
 * | mixing         | epoch                                  | sample id |       |
 * | evaluation     | 0 bootstrap                            |           |       |
 * |                | 1 choice of examples                   | class     |       |
 * |                | 2 choice of images whose map is probed |           |       |
 * |                | 3 weights shuffled                     | layer     |       |
 * |                | 4 noise of imputed pixels, 5 any order | image id  |       |
 */
export const DOMAIN = {
  deal: 1,
  order: 2,
  augmentation: 3,
  dropout: 4,
  initialWeights: 5,
  fingerprint: 6,
  synthetic: 7,
  mixing: 8,
  evaluation: 9,
  holdOut: 10,
  operations: 11,
} as const;
export type Domain = (typeof DOMAIN)[keyof typeof DOMAIN];

const TO_UNIT = 2 ** -24;

/**
 * A sequence of random numbers that is a pure function of (seed, domain, a, b, c): word i of the sequence is word
 * i mod 4 of Philox4x32-10 at counter (floor(i / 4), a, b, c) under the key (seed, domain).
 */
export class Stream {
  readonly #block = new Uint32Array(4);
  #seed = 0;
  #domain: number = 0;
  #a = 0;
  #b = 0;
  #c = 0;
  #index = 0;
  #spareNormal: number | null = null;

  constructor(seed: number, domain: Domain, a = 0, b = 0, c = 0) {
    this.restart(seed, domain, a, b, c);
  }

  /** Begins another sequence in the same object; hot loops save the allocation. */
  restart(seed: number, domain: Domain, a = 0, b = 0, c = 0): this {
    this.#seed = seed;
    this.#domain = domain;
    this.#a = a;
    this.#b = b;
    this.#c = c;
    this.#index = 0;
    this.#spareNormal = null;
    return this;
  }

  /** Uniform in 0 .. 2^32 - 1. */
  uint32(): number {
    const word = this.#index & 3;
    if (word === 0) {
      philox(this.#block, this.#index / 4, this.#a, this.#b, this.#c, this.#seed, this.#domain);
    }
    this.#index += 1;
    return this.#block[word]!;
  }

  /** Uniform in [0, 1), a multiple of 2^-24: exact in float32. */
  uniform(): number {
    return (this.uint32() >>> 8) * TO_UNIT;
  }

  /** Uniform in [low, high), computed in float64. */
  between(low: number, high: number): number {
    return low + this.uniform() * (high - low);
  }

  /** Uniform in 0 .. below - 1 without bias: words above the largest multiple of `below` are drawn again. */
  integer(below: number): number {
    if (!Number.isInteger(below) || below < 1 || below > 2 ** 32) throw new RangeError(`no integer is below ${below}`);
    const limit = 2 ** 32 - (2 ** 32 % below);
    let word = this.uint32();
    while (word >= limit) word = this.uint32();
    return word % below;
  }

  /**
   * Standard normal, by Marsaglia and Bray's polar method (SIAM Review 6, 1964) on operations that every machine
   * rounds alike: + - * /, square root and ln of exact-math.ts.
   */
  normal(): number {
    if (this.#spareNormal !== null) {
      const spare = this.#spareNormal;
      this.#spareNormal = null;
      return spare;
    }
    for (;;) {
      const u = 2 * this.uniform() - 1;
      const v = 2 * this.uniform() - 1;
      const s = u * u + v * v;
      if (s > 0 && s < 1) {
        const factor = Math.sqrt((-2 * ln(s)) / s);
        this.#spareNormal = v * factor;
        return u * factor;
      }
    }
  }

  /** Fisher-Yates shuffle in place (Durstenfeld, CACM 7, 1964); returns the same array. */
  shuffle<T extends Int32Array | unknown[]>(items: T): T {
    for (let i = items.length - 1; i > 0; i--) {
      const j = this.integer(i + 1);
      const held = items[i];
      items[i] = items[j];
      items[j] = held;
    }
    return items;
  }
}
