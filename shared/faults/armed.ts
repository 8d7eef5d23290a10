import type { Fault } from "./fault.ts";

/** Faults that wait for their moments, the oldest first. Each happens once. */
export class Armed {
  #faults: Fault[] = [];

  add(fault: Fault): void {
    this.#faults.push(fault);
  }

  /** The fault that this moment brings, if any: it waits no longer. */
  take(moment: Fault["moment"]): Fault | null {
    if (this.#faults.length === 0) return null;
    const index = this.#faults.findIndex((fault) => fault.moment === moment);
    return index < 0 ? null : this.#faults.splice(index, 1)[0]!;
  }

  /** Has all that this moment brings done, one after the other. */
  bring(moment: Fault["moment"], strike: (fault: Fault) => void): void {
    for (let fault = this.take(moment); fault !== null; fault = this.take(moment)) strike(fault);
  }
}
