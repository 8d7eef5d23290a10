import type { Incarnation } from "../shared/protocol/view.ts";
import type { Outcome } from "./machine/state.ts";
import type { Sessions } from "./sessions.ts";

/** Lets go whoever comes to a run that is over, once its end is recorded: nobody would come back to a coordinator that lost it. */
export class Farewell {
  readonly #late: Incarnation[] = [];
  #release: ((incarnation: Incarnation) => void) | null = null;

  /** Somebody came after the end: they go at once, or hear of it when it is recorded; never where this reign alone has ended. */
  take(incarnation: Incarnation): void {
    if (this.#release === null) this.#late.push(incarnation);
    else this.#release(incarnation);
  }

  /** The end is recorded. */
  begin(sessions: Pick<Sessions, "send">, { kind }: Outcome): void {
    this.#release = (incarnation) => sessions.send(incarnation, { kind: "release", reason: kind });
    for (const incarnation of this.#late.splice(0)) this.#release(incarnation);
  }
}
