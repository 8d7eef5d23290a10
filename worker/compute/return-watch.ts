import type { Timing } from "../../shared/config/schema.ts";

/** How long a micro-batch may take at most, in milliseconds, by the worker's own speed. */
export const returnPatience = (timing: Timing, shardMillis: number): number =>
  shardMillis === 0 ? timing.firstStepBudget : Math.max(timing.stepBudgetFloor, timing.stepBudgetFactor * shardMillis);

/**
 * Notices a compute thread that never comes back: from a step that was given up it returns within a micro-batch, or it is
 * stuck in a kernel for good and its process is of no use.
 */
export class ReturnWatch {
  readonly #ask: () => void;
  readonly #patience: () => number;
  readonly #onStuck: (millis: number) => void;
  #timer: NodeJS.Timeout | null = null;

  /**
   * @param ask asks the thread for a sign, to be answered with `end` when all that was asked before is done
   * @param patience how long that may take, in milliseconds
   */
  constructor(ask: () => void, patience: () => number, onStuck: (millis: number) => void) {
    this.#ask = ask;
    this.#patience = patience;
    this.#onStuck = onStuck;
  }

  begin(): void {
    if (this.#timer !== null) return;
    const millis = this.#patience();
    this.#timer = setTimeout(() => this.#onStuck(millis), millis);
    this.#ask();
  }

  end(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }
}
