import type { Validation } from "../machine/validate.ts";
import type { DurableRecord } from "../records/record.ts";
import { replaceFile } from "./durable.ts";

/** One line of validations.ndjson: what was found of a state on the held-out images. */
export interface ValidationLine {
  readonly time: string;
  /** Steps in the state. */
  readonly step: number;
  readonly epoch: number;
  readonly lineage: string;
  /** 0 where it could not be validated, since all that held the state were lost. */
  readonly samples: number;
  readonly correct: number;
  readonly accuracy: number | null;
  /** Mean over the images in nats; null where it is not finite. */
  readonly loss: number | null;
}

/** validations.ndjson, a line for each validation of the surviving line. The records are the truth; it is made of them. */
export class ValidationsFile {
  readonly #path: string;
  readonly #stepsPerEpoch: number;
  #lines = new Map<number, ValidationLine>();

  constructor(path: string, stepsPerEpoch: number) {
    this.#path = path;
    this.#stepsPerEpoch = stepsPerEpoch;
  }

  get lines(): readonly ValidationLine[] {
    return [...this.#lines.values()];
  }

  /** It is in the file with the next `write`. */
  add(validation: Validation, time: number): ValidationLine {
    const line = this.#line(validation, time);
    this.#lines.set(line.step, line);
    return line;
  }

  /** What the records say. @throws as `write` */
  reconcile(records: Iterable<DurableRecord>): void {
    this.#lines = new Map();
    for (const record of records) {
      if (record.kind === "validation") {
        const { loss, time, ...rest } = record;
        this.#lines.set(record.step, this.#line({ ...rest, loss: loss ?? Number.NaN }, time));
      } else if (record.kind === "truncate" && record.keepsValidations !== true) this.#forget(record.tip.step);
    }
    if (this.#lines.size > 0) this.write();
  }

  /** Final steps from this one on do not count any more. @throws as `write` */
  truncate(steps: number): void {
    if (this.#forget(steps)) this.write();
  }

  /** @throws the system's error; a later call writes all lines again */
  write(): void {
    replaceFile(this.#path, this.lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
  }

  #forget(steps: number): boolean {
    const gone = [...this.#lines.keys()].filter((step) => step > steps);
    for (const step of gone) this.#lines.delete(step);
    return gone.length > 0;
  }

  #line({ step, lineage, samples, correct, loss }: Validation, time: number): ValidationLine {
    const measured = samples > 0;
    return {
      time: new Date(time).toISOString(),
      step,
      epoch: step / this.#stepsPerEpoch,
      lineage,
      samples,
      correct,
      accuracy: measured ? correct / samples : null,
      loss: measured && Number.isFinite(loss) ? loss / samples : null,
    };
  }
}
