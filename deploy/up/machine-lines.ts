import { join } from "node:path";
import { LineTail } from "./line-tail.ts";

/**
 * What --json prints while a run goes on, one object per line: the run's events as events.ndjson has them (`type` says
 * which), and each final step once, `{"type": "step", ...}`, without its shards.
 */
export class MachineLines {
  readonly #write: (value: object) => void;
  readonly #events: LineTail;
  readonly #steps: LineTail;
  #nextStep = 0;

  /** @param old true: what the files hold already belongs to an earlier life of the run and is not printed */
  constructor(directory: string, write: (value: object) => void, old: boolean) {
    this.#write = write;
    this.#events = new LineTail(join(directory, "events.ndjson"));
    this.#steps = new LineTail(join(directory, "steps.ndjson"));
    if (!old) return;
    this.#events.read();
    for (const { step } of this.#steps.read()) this.#nextStep = Math.max(this.#nextStep, Number(step) + 1);
  }

  pump(): void {
    for (const event of this.#events.read()) if (typeof event.type === "string") this.#write(event);
    for (const { shards: _shards, ...line } of this.#steps.read()) {
      // Steps that are done again after a fall-back are the same steps.
      if (typeof line.step !== "number" || line.step < this.#nextStep) continue;
      this.#nextStep = line.step + 1;
      this.#write({ type: "step", ...line });
    }
  }
}
