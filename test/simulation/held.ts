import type { CoordinatorMessage } from "../../shared/protocol/messages.ts";
import type { Tip } from "../../shared/protocol/view.ts";
import { HeldState } from "../../worker/held-state.ts";
import type { SimWorker } from "./sim-worker.ts";

/** Batches of a validation. */
export const BATCHES = 4;

/** What a batch of held-out images says of a state: a pure function of both, whose sum depends on the order. */
export function countsOf(content: string, batch: number) {
  const correct = [...content].reduce((sum, letter) => sum + letter.charCodeAt(0), batch) % 10;
  return { samples: 10, correct, loss: correct / 3 + 10 ** batch };
}

/** What a worker of the simulation keeps aside for validation, and how it answers. */
export class SimHeld {
  readonly state: HeldState;
  readonly #worker: SimWorker;
  #kept: { readonly step: number; readonly content: string } | null = null;

  constructor(worker: SimWorker) {
    this.#worker = worker;
    const { validateEvery = null, forgetful = false, patient = false } = worker.world.options;
    this.state = new HeldState(
      validateEvery,
      patient ? worker.world.totalSteps : null,
      ({ step, stateHash }) => {
        this.#kept = { step, content: worker.content };
        const sound = worker.world.line.hash(worker.content) === stateHash;
        worker.later(1, () => this.state.kept(step, sound));
      },
      (tip) => {
        if (!forgetful) worker.send({ kind: "held", tip, bytes: 1 });
        else this.state.done(tip.step);
      },
    );
  }

  /** The whole state that is kept, where it is this one. */
  imageOf(tip: Tip): { readonly tip: Tip; readonly content: string } | null {
    return this.#kept?.step === tip.step && this.state.step === tip.step ? { tip, content: this.#kept.content } : null;
  }

  receive(message: CoordinatorMessage): void {
    if (message.kind === "validationDone") this.state.done(message.step);
    if (message.kind === "welcome") this.state.again();
    if (message.kind !== "validate") return;
    const { step, batch } = message;
    this.#worker.later(30, () => {
      const kept = this.#kept;
      if (this.#worker.stuck || kept?.step !== step) return;
      this.#worker.send({ kind: "validated", step, batch, ...countsOf(kept.content, batch) });
    });
  }
}
