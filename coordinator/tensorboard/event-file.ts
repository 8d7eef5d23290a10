import { mkdir, open } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Recipe } from "../../shared/config/schema.ts";
import { type LedgerEntry, tallyOf } from "../../shared/protocol/trailer.ts";
import { AppendQueue } from "../files/append-queue.ts";
import type { ValidationLine } from "../files/validations-file.ts";
import { restartEvent, scalarEvent, versionEvent } from "./event.ts";

/** tensorboard/ of a run directory: one event file for each reign. */
export class EventFile {
  readonly #recipe: Recipe;
  readonly #file: AppendQueue;
  #last: number | null = null;

  /** @param directory tensorboard/ of the run; made when it is first written to, since a full disk must not keep a coordinator from ruling */
  constructor(directory: string, recipe: Recipe, term: number, now: number) {
    this.#recipe = recipe;
    const name = `events.out.tfevents.${Math.floor(now / 1000)}.lockstep.term-${term}`;
    this.#file = new AppendQueue(join(directory, name), { open: openInDirectory });
    this.#file.write(versionEvent(now));
  }

  /** Events that were never written. */
  get dropped(): number {
    return this.#file.dropped;
  }

  /** A final step. Step n in TensorBoard is the state after n updates. */
  final(entry: LedgerEntry, time: number): void {
    const { step, shards, loss, gradientNorm } = entry;
    const { images, accuracy } = tallyOf(shards);
    const scalars: Record<string, number> = {
      "train/loss": loss,
      "train/accuracy": accuracy,
      "train/learning_rate": this.#recipe.learningRates[step] ?? 0,
      "train/gradient_norm": gradientNorm,
    };
    if (this.#last !== null && time > this.#last)
      scalars["speed/images_per_second"] = (1000 * images) / (time - this.#last);
    this.#last = time;
    this.#file.write(scalarEvent({ time, step: step + 1, scalars }));
  }

  /** What was found of a state on the held-out images. */
  validation({ step, accuracy, loss }: Pick<ValidationLine, "step" | "accuracy" | "loss">, time: number): void {
    if (accuracy === null) return;
    const scalars = { "validation/accuracy": accuracy, "validation/loss": loss ?? Number.NaN };
    this.#file.write(scalarEvent({ time, step, scalars }));
  }

  /** Final steps from this one on do not count any more. */
  truncate(steps: number, time: number): void {
    this.#file.write(restartEvent(time, steps + 1));
  }

  close(): Promise<void> {
    return this.#file.close();
  }
}

async function openInDirectory(path: string) {
  await mkdir(dirname(path), { recursive: true });
  return open(path, "a", 0o644);
}
