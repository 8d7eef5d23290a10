import { closeSync, existsSync, ftruncateSync, openSync, readSync, renameSync, rmSync } from "node:fs";
import type { Recipe } from "../../shared/config/schema.ts";
import { type LedgerEntry, tallyOf } from "../../shared/protocol/trailer.ts";
import { viewName } from "../../shared/protocol/view.ts";
import { type DurableRecord, entryOf } from "../records/record.ts";
import type { AppendQueueOptions } from "./append-queue.ts";
import { writeAllSync } from "./durable.ts";
import { LineFile } from "./line-file.ts";

/** One line of steps.ndjson: a final step, with all that two runs are compared by. */
export function stepLine(entry: LedgerEntry, recipe: Recipe, time: number): string {
  const { images, accuracy } = tallyOf(entry.shards);
  return JSON.stringify({
    time: new Date(time).toISOString(),
    step: entry.step,
    epoch: Math.floor(entry.step / recipe.stepsPerEpoch),
    view: viewName(entry.view),
    loss: entry.loss,
    accuracy,
    images,
    learningRate: recipe.learningRates[entry.step],
    gradientNorm: entry.gradientNorm,
    applied: entry.applied,
    lineage: entry.lineage,
    stateHash: entry.stateHash,
    shards: entry.shards,
  });
}

/**
 * steps.ndjson. The records are the truth; the file follows them without flushing, so that it is compared with them at the
 * start and the end of a reign, and written anew where a crash, a full disk or a fall-back made it differ.
 */
export class StepsFile {
  readonly #path: string;
  readonly #recipe: Recipe;
  readonly #options: AppendQueueOptions;
  #lines: LineFile;

  constructor(path: string, recipe: Recipe, options: AppendQueueOptions = {}) {
    this.#path = path;
    this.#recipe = recipe;
    this.#options = options;
    this.#lines = new LineFile(path, options);
  }

  get dropped(): number {
    return this.#lines.dropped;
  }

  write(entry: LedgerEntry, time: number): void {
    this.#lines.write(stepLine(entry, this.#recipe, time));
  }

  /**
   * Writes the file anew where it is not what the records say; `records` is called once for every pass over them.
   * @throws the system's error where there is no room; the file stays as it was and can be written on
   */
  async reconcile(records: () => Iterable<DurableRecord>): Promise<void> {
    await this.#lines.close();
    try {
      if (!this.#agrees(records())) this.#rewrite(records());
    } catch (error) {
      rmSync(`${this.#path}.partial`, { force: true });
      throw error;
    } finally {
      this.#lines = new LineFile(this.#path, this.#options);
    }
  }

  async close(): Promise<void> {
    await this.#lines.close();
  }

  #agrees(records: Iterable<DurableRecord>): boolean {
    if (!existsSync(this.#path)) return false;
    const kept = new Offsets();
    for (const record of records) {
      if (record.kind === "truncate") kept.truncate(record.tip.step);
      if (record.kind === "final") kept.push(record.step, Buffer.byteLength(this.#lineOf(record)) + 1);
    }
    const descriptor = openSync(this.#path, "r");
    try {
      return newlinesAt(descriptor, kept.offsets);
    } finally {
      closeSync(descriptor);
    }
  }

  #rewrite(records: Iterable<DurableRecord>): void {
    const temporary = `${this.#path}.partial`;
    const descriptor = openSync(temporary, "w", 0o644);
    const kept = new Offsets();
    try {
      for (const record of records) {
        if (record.kind === "truncate") ftruncateSync(descriptor, kept.truncate(record.tip.step));
        if (record.kind !== "final") continue;
        const line = Buffer.from(`${this.#lineOf(record)}\n`);
        writeAllSync(descriptor, line, kept.end);
        kept.push(record.step, line.length);
      }
    } finally {
      closeSync(descriptor);
    }
    renameSync(temporary, this.#path);
  }

  #lineOf(record: Extract<DurableRecord, { kind: "final" }>): string {
    return stepLine(entryOf(record), this.#recipe, record.time);
  }
}

/** Where each step's line ends, 8 bytes a step. The first line is that of step 0, or of the step where a fork began. */
class Offsets {
  readonly offsets: number[] = [];
  #first = 0;

  get end(): number {
    return this.offsets.at(-1) ?? 0;
  }

  push(step: number, bytes: number): void {
    if (this.offsets.length === 0) this.#first = step;
    this.offsets.push(this.end + bytes);
  }

  truncate(steps: number): number {
    this.offsets.length = Math.min(Math.max(0, steps - this.#first), this.offsets.length);
    return this.end;
  }
}

/** Does the file consist of lines that end exactly there? */
function newlinesAt(descriptor: number, ends: readonly number[]): boolean {
  const piece = Buffer.alloc(1 << 18);
  let next = 0;
  let start = 0;
  for (;;) {
    const bytes = readSync(descriptor, piece, 0, piece.length, start);
    if (bytes === 0) return next === ends.length && start === (ends.at(-1) ?? 0);
    const content = piece.subarray(0, bytes);
    for (let at = content.indexOf(10); at >= 0; at = content.indexOf(10, at + 1)) {
      if (ends[next] !== start + at + 1) return false;
      next += 1;
    }
    start += bytes;
  }
}
