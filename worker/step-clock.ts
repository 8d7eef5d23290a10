import type { Incarnation } from "../shared/protocol/view.ts";
import type { MemberAction, MemberEvent } from "./member/state.ts";

/**
 * Watches the membership machine and keeps account of what its steps wait for. It decides nothing. Times are sums in
 * milliseconds since the worker's start.
 */
export class StepClock {
  /** Between the end of the own gradients and the commit: exchange that no computing hides. */
  exposedMillis = 0;
  /** Comparisons of all members' lineage and state hash. */
  readonly checks = { equal: 0, different: 0 };
  /** By peer of the present view: time until its trailer came. */
  readonly #waits = new Map<Incarnation, number>();
  #computedAt: number | null = null;

  get waits(): ReadonlyMap<Incarnation, number> {
    return this.#waits;
  }

  /** @param now in milliseconds on any monotonic clock */
  saw(event: MemberEvent, now: number): void {
    if (event.kind === "computed") this.#computedAt = now;
    if (event.kind !== "trailer" || this.#computedAt === null) return;
    const { from } = event.trailer;
    this.#waits.set(from, (this.#waits.get(from) ?? 0) + now - this.#computedAt);
  }

  does(action: MemberAction, now: number): void {
    if (action.kind === "commit") {
      this.checks.equal += 1;
      if (this.#computedAt !== null) this.exposedMillis += now - this.#computedAt;
      this.#computedAt = null;
    } else if (action.kind === "send" && action.message.kind === "mismatch") {
      this.checks.different += 1;
    } else if (action.kind === "close") {
      // The step is given up: what it waited for says nothing about a committed one.
      this.#computedAt = null;
    } else if (action.kind === "openStreams") {
      const members = new Set(action.view.members.map(({ incarnation }) => incarnation));
      for (const peer of this.#waits.keys()) if (!members.has(peer)) this.#waits.delete(peer);
      for (const peer of members) if (!this.#waits.has(peer)) this.#waits.set(peer, 0);
    }
  }
}
