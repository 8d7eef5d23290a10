import type { Fault } from "../../shared/faults/fault.ts";
import { strikeProcess } from "../../shared/faults/strike.ts";
import type { WorkerFaults } from "./worker-faults.ts";

/** Faults of a worker that still loads: what befalls the process does so at once, all others once there is a worker. */
export class EarlyFaults {
  readonly #kept: Fault[] = [];

  inject(fault: Fault): void {
    if (fault.moment !== null || !strikeProcess(fault)) this.#kept.push(fault);
  }

  handTo(faults: Pick<WorkerFaults, "inject">): void {
    for (const fault of this.#kept.splice(0)) faults.inject(fault);
  }
}
