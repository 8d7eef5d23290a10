import type { Refusal } from "./gate.ts";
import { RateBound } from "./rate-bound.ts";

/** Lines for one kind of refusal: whoever floods a port must not fill a disk. */
const RATE = { burst: 20, perSecond: 0.2 };

/** Says some of the refusals; a metric counts all of them. */
export class RefusalLog {
  readonly #say: (refusal: Refusal & { readonly unsaid: number }) => void;
  readonly #rate = new RateBound(RATE);
  readonly #unsaid = new Map<string, number>();

  /** @param say with how many of its kind were not said since the last one */
  constructor(say: (refusal: Refusal & { readonly unsaid: number }) => void) {
    this.#say = say;
  }

  add(refusal: Refusal, now = performance.now()): void {
    const { code } = refusal;
    const unsaid = this.#unsaid.get(code) ?? 0;
    if (!this.#rate.take(code, now)) return void this.#unsaid.set(code, unsaid + 1);
    this.#unsaid.set(code, 0);
    this.#say({ ...refusal, unsaid });
  }
}
