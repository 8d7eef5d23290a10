import { Armed } from "../shared/faults/armed.ts";
import { type CoordinatorMoment, type Fault, suitsCoordinator } from "../shared/faults/fault.ts";
import { noteStrike, strikeProcess } from "../shared/faults/strike.ts";

/** Time for the answer to whoever injects a fault, in milliseconds. */
const ANSWER_MILLIS = 50;

/** Injected faults of this coordinator: nothing happens unless somebody asks for it. */
export class CoordinatorFaults {
  readonly #armed = new Armed();

  /** Arms a fault, or does it at once where it names no moment. False for one that a coordinator cannot have. */
  inject(fault: Fault): boolean {
    if (!suitsCoordinator(fault)) return false;
    if (fault.moment === null) setTimeout(() => strike(fault), ANSWER_MILLIS);
    else this.#armed.add(fault);
    return true;
  }

  /** The coordinator is at this moment. @throws Error the injected exception */
  at(moment: CoordinatorMoment): void {
    this.#armed.bring(moment, strike);
  }
}

function strike(fault: Fault): void {
  noteStrike(fault);
  strikeProcess(fault);
}
