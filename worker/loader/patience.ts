/** Longest wait at a time, in milliseconds. */
const SLICE = 1000;

/**
 * How long something is still waited for, counted in waits that this process really made: a process that was stopped for an
 * hour and goes on has lost one slice of its patience, as its threads had no time to work either.
 */
export class Patience {
  #left: number;
  readonly #now: () => number;

  /** @param millis to wait in all; `now` is a monotonic clock in milliseconds */
  constructor(millis: number, now: () => number = () => performance.now()) {
    this.#left = millis;
    this.#now = now;
  }

  get over(): boolean {
    return this.#left <= 0;
  }

  /** Waits at most a slice by `wait`, which blocks for up to the milliseconds that it is given. */
  spend(wait: (millis: number) => void): void {
    const slice = Math.min(SLICE, this.#left);
    const before = this.#now();
    wait(slice);
    this.#left -= Math.min(slice, this.#now() - before);
  }
}
