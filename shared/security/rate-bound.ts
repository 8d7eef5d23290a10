/** A bucket of tokens for each key: so many at once, so many a second in the long run (a token bucket, RFC 2697's kind). */
export interface Rate {
  readonly burst: number;
  readonly perSecond: number;
}

/** Keys that are remembered; the one that was idle longest is forgotten first. */
const MOST_KEYS = 4096;

/** Bounds how often something may happen, for each key apart. Pure but for its own memory: times come from outside. */
export class RateBound {
  readonly #rate: Rate;
  readonly #buckets = new Map<string, { left: number; at: number }>();

  constructor(rate: Rate) {
    this.#rate = rate;
  }

  /** True where there was room, which is then used. @param now milliseconds on any clock that does not go back */
  take(key: string, now: number): boolean {
    const left = this.left(key, now);
    this.#buckets.delete(key);
    this.#buckets.set(key, { left: left >= 1 ? left - 1 : left, at: now });
    if (this.#buckets.size > MOST_KEYS) this.#buckets.delete(this.#buckets.keys().next().value!);
    return left >= 1;
  }

  /** What a key may still do at once. */
  left(key: string, now: number): number {
    const { burst, perSecond } = this.#rate;
    const bucket = this.#buckets.get(key);
    if (bucket === undefined) return burst;
    return Math.min(burst, bucket.left + (Math.max(0, now - bucket.at) / 1000) * perSecond);
  }
}
