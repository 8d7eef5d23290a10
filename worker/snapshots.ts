import type { Tip } from "../shared/protocol/view.ts";

/**
 * The copy of the state from which the coordinator stores a checkpoint while training goes on. There is room for one; it
 * may be pulled from when it is whole until the coordinator discards it or wants one of a later step.
 */
export class Snapshots {
  readonly #copy: (tip: Tip) => void;
  readonly #say: (tip: Tip) => void;
  #wanted = false;
  #copying = false;
  #held: Tip | null = null;

  /**
   * @param copy has the live state, which is at this tip, copied before anything moves it on; answers with `taken`
   * @param say tells the coordinator that the snapshot can be pulled
   */
  constructor(copy: (tip: Tip) => void, say: (tip: Tip) => void) {
    this.#copy = copy;
    this.#say = say;
  }

  /** Step of the snapshot that can be pulled; null while there is none. */
  get step(): number | null {
    return this.#held?.step ?? null;
  }

  /**
   * The coordinator wants one, of a state not older than `now`. It may ask again after a change of view or a redial: one
   * under way or just taken answers that, since taking another would break its pull.
   * @param resting nothing moves the state: it can be copied at once
   */
  want(now: Tip, resting: boolean): void {
    if (this.#copying) return;
    if (this.#held !== null && now.step - this.#held.step <= 1) return this.#say(this.#held);
    this.#wanted = true;
    if (resting) this.reached(now);
  }

  /** The state is at this tip and has not been moved on yet: after an update, or at rest. */
  reached(tip: Tip): void {
    if (!this.#wanted) return;
    this.#wanted = false;
    this.#copying = true;
    this.#held = null;
    this.#copy(tip);
  }

  taken(tip: Tip): void {
    this.#copying = false;
    this.#held = tip;
    this.#say(tip);
  }

  discard(step: number): void {
    if (this.#held?.step === step) this.#held = null;
  }
}
