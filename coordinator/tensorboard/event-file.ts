import { type FileHandle, mkdir, open } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Recipe } from "../../shared/config/schema.ts";
import { type LedgerEntry, tallyOf } from "../../shared/protocol/trailer.ts";
import { writeAll } from "../files/durable.ts";
import { restartEvent, scalarEvent, versionEvent } from "./event.ts";

const FLUSH_MILLIS = 2000;
/** What waits while the disk is slow or full, in bytes; beyond it events are dropped and counted. */
const MOST_BYTES = 4 << 20;

/**
 * tensorboard/ of a run directory: one event file for each reign. Nothing waits for it and nothing is decided by it; a disk
 * that is full costs what did not fit.
 */
export class EventFile {
  dropped = 0;
  readonly #path: string;
  readonly #recipe: Recipe;
  readonly #timer: NodeJS.Timeout;
  #queue: Buffer[] = [];
  #queued = 0;
  #handle: FileHandle | null = null;
  #writing: Promise<void> | null = null;
  #broken = false;
  #last: number | null = null;

  /** @param directory tensorboard/ of the run; made with the first event, since a full disk must not keep a coordinator from ruling */
  constructor(directory: string, recipe: Recipe, term: number, now: number) {
    this.#recipe = recipe;
    this.#path = join(directory, `events.out.tfevents.${Math.floor(now / 1000)}.lockstep.term-${term}`);
    this.#push(versionEvent(now));
    this.#timer = setInterval(() => this.#flush(), FLUSH_MILLIS);
    this.#timer.unref();
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
    this.#push(scalarEvent({ time, step: step + 1, scalars }));
  }

  /** Final steps from this one on do not count any more. */
  truncate(steps: number, time: number): void {
    this.#push(restartEvent(time, steps + 1));
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#writing;
    this.#flush();
    await this.#writing;
    await this.#handle?.close().catch(() => {});
  }

  #push(bytes: Buffer): void {
    if (this.#broken || this.#queued + bytes.length > MOST_BYTES) {
      this.dropped += 1;
      return;
    }
    this.#queue.push(bytes);
    this.#queued += bytes.length;
  }

  #flush(): void {
    if (this.#writing !== null || this.#queue.length === 0 || this.#broken) return;
    const bytes = Buffer.concat(this.#queue);
    const events = this.#queue.length;
    this.#queue = [];
    this.#queued = 0;
    this.#writing = (async () => {
      try {
        if (this.#handle === null) await mkdir(dirname(this.#path), { recursive: true });
        this.#handle ??= await open(this.#path, "a", 0o644);
        await writeAll(this.#handle, bytes);
      } catch {
        // A record may be torn: what came behind it could not be read, so that this reign writes no more.
        this.#broken = true;
        this.dropped += events + this.#queue.length;
      }
      this.#writing = null;
    })();
  }
}
