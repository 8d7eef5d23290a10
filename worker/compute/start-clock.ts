/** Milliseconds that a worker's start spends on each thing. */
export interface StartMillis {
  /** TensorFlow's library, its add-on and TensorFlow.js. */
  readonly runtime: number;
  /** Data set, model, shared memory and loaders. */
  readonly data: number;
  /** Initial weights and the gradients of the fixed micro-batches. */
  readonly fingerprint: number;
}

/** Times the start of a compute thread, one thing after the other. */
export class StartClock {
  readonly laps: { -readonly [name in keyof StartMillis]: number } = { runtime: 0, data: 0, fingerprint: 0 };
  #since = performance.now();

  /** Whatever was done since the lap before was this. */
  lap(name: keyof StartMillis): void {
    const now = performance.now();
    this.laps[name] = Math.round(now - this.#since);
    this.#since = now;
  }
}
