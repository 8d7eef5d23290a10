import type { Config } from "../shared/config/schema.ts";
import { validationSettings } from "../shared/config/validation.ts";
import type { WorkerMessage } from "../shared/protocol/messages.ts";
import type { Tip } from "../shared/protocol/view.ts";
import type { ComputeRequest } from "./compute/messages.ts";
import type { MemoryPlan } from "./memory/plan.ts";

/**
 * The weights that are kept aside while the coordinator has a state validated. There is room for one: a state that is to be
 * kept while the one before is not done with holds the next update back, but neither gradients nor exchange.
 */
export class HeldState {
  readonly #every: number | null;
  readonly #last: number | null;
  readonly #copy: (tip: Tip) => void;
  readonly #say: (tip: Tip) => void;
  #held: Tip | null = null;
  /** The copy is whole. */
  #kept = false;
  /** The live state is at this tip and will be kept as soon as there is room. */
  #waiting: Tip | null = null;
  #go: (() => void) | null = null;

  /**
   * @param every steps between states that are kept; null: none
   * @param last step of the last state, where that is kept as well
   * @param copy has the live state, which is at this tip, copied before anything moves it on; answers with `kept`
   * @param say tells the coordinator that they can be validated
   */
  constructor(every: number | null, last: number | null, copy: (tip: Tip) => void, say: (tip: Tip) => void) {
    this.#every = every;
    this.#last = last;
    this.#copy = copy;
    this.#say = say;
  }

  /** As a run's config has it. @param post to the compute thread */
  static of(
    config: Config,
    { held }: Pick<MemoryPlan, "held">,
    post: (request: ComputeRequest) => void,
    send: (message: Extract<WorkerMessage, { kind: "held" }>) => void,
  ): HeldState {
    const { earlyStopping, steps } = config.recipe;
    return new HeldState(
      validationSettings(config)?.everySteps ?? null,
      earlyStopping === undefined ? null : steps,
      ({ step, stateHash }) => post({ kind: "hold", step, stateHash }),
      (tip) => send({ kind: "held", tip, bytes: held?.bytes ?? 0 }),
    );
  }

  /** Step of the state that is kept; null while none is. */
  get step(): number | null {
    return this.#kept ? (this.#held?.step ?? null) : null;
  }

  /** The live state is whole and at this tip: after an update, or loaded. */
  reached(tip: Tip): void {
    this.#waiting = null;
    if (this.#every === null || tip.step === 0 || (tip.step % this.#every !== 0 && tip.step !== this.#last)) return;
    const held = this.#held;
    // What lies ahead after a fall-back to a checkpoint will be reached again.
    if (held !== null && held.step < tip.step) this.#waiting = tip;
    else if (held?.lineage === tip.lineage && held.stateHash === tip.stateHash) this.again();
    else this.#take(tip);
  }

  /**
   * The copy of this step's state is whole.
   * @param sound false: a bit of the state has flipped since its hash was taken, so that it is of no use
   */
  kept(step: number, sound: boolean): void {
    if (this.#held?.step !== step) return;
    if (!sound) return this.done(step);
    this.#kept = true;
    this.again();
  }

  /** Runs `go`, which moves the state on from this step, now or as soon as it has been kept. False where it waits. */
  before(step: number, go: () => void): boolean {
    const waits = this.#waiting?.step === step;
    this.#go = waits ? go : null;
    if (!waits) go();
    return !waits;
  }

  /** The coordinator is done with the state of this step. */
  done(step: number): void {
    if (this.#held?.step === step) this.#held = null;
    const [waiting, go] = [this.#waiting, this.#go];
    if (this.#held !== null || waiting === null) return;
    this.#waiting = null;
    this.#go = null;
    this.#take(waiting);
    go?.();
  }

  /** The view is closed: what would have moved the state on is not wanted any more. */
  closed(): void {
    this.#go = null;
  }

  /** The live state is about to be replaced. */
  replaced(): void {
    this.#waiting = null;
    this.#go = null;
  }

  /** A new stream to the coordinator, which may not have heard of it. */
  again(): void {
    if (this.#held !== null && this.#kept) this.#say(this.#held);
  }

  #take(tip: Tip): void {
    this.#held = tip;
    this.#kept = false;
    this.#copy(tip);
  }
}
