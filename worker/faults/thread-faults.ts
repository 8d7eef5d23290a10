import { Armed } from "../../shared/faults/armed.ts";
import type { Fault, WorkerMoment } from "../../shared/faults/fault.ts";
import { noteStrike, strikeProcess } from "../../shared/faults/strike.ts";
import type { StateImage } from "../memory/plan.ts";
import { flipState } from "./flip.ts";

/** Injected faults, as the compute thread sees them. */
export class ThreadFaults {
  readonly #armed = new Armed();
  readonly #memory: WebAssembly.Memory;
  readonly #state: StateImage;
  readonly #hand: (fault: Fault) => void;

  /** @param hand gives a fault that the thread cannot do to the main thread, which does it at once */
  constructor(memory: WebAssembly.Memory, state: StateImage, hand: (fault: Fault) => void) {
    this.#memory = memory;
    this.#state = state;
    this.#hand = hand;
  }

  inject(fault: Fault): void {
    if (fault.moment === null) this.#strike(fault);
    else this.#armed.add(fault);
  }

  /** The thread is at this moment. True where something struck. */
  at(moment: WorkerMoment): boolean {
    let struck = false;
    this.#armed.bring(moment, (fault) => {
      struck = true;
      this.#strike(fault);
    });
    return struck;
  }

  #strike(fault: Fault): void {
    if (fault.moment !== null) noteStrike(fault);
    // Connections belong to the main thread.
    if (fault.name !== "disconnect" && strikeProcess(fault)) return;
    if (fault.name === "stuck") Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
    else if (fault.name === "thread-death") process.exit(1);
    else if (fault.name === "flip-weights" || fault.name === "flip-slots")
      flipState(this.#memory, this.#state, fault.name);
    else this.#hand({ ...fault, moment: null });
  }
}
