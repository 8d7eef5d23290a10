import type { Config } from "../config/schema.ts";
import type { Progress } from "../protocol/messages.ts";
import { type LedgerEntry, tallyOf } from "../protocol/trailer.ts";
import { viewName } from "../protocol/view.ts";
import type { EpochMessage, StepMessage, WorkerMessage } from "./schema.ts";

/** Messages made from what the cluster knows; pure. */

const finite = (value: number): number | null => (Number.isFinite(value) ? value : null);

export function stepMessage(entry: LedgerEntry, from: string, config: Config): StepMessage {
  const { recipe } = config;
  const { images, accuracy } = tallyOf(entry.shards);
  const shards: Record<string, number[]> = {};
  for (const { shard, by } of entry.shards) {
    shards[by] ??= [];
    shards[by].push(shard);
  }
  return {
    run: config.runId,
    view: viewName(entry.view),
    step: entry.step,
    epoch: Math.floor(entry.step / recipe.stepsPerEpoch),
    from,
    loss: finite(entry.loss),
    accuracy,
    images,
    learningRate: recipe.learningRates[entry.step] ?? 0,
    gradientNorm: finite(entry.gradientNorm),
    applied: entry.applied,
    lineage: entry.lineage,
    shards,
  };
}

export function workerMessage(
  run: string,
  name: string,
  incarnation: string,
  progress: Progress,
  time: Date,
): WorkerMessage {
  return {
    run,
    time: time.toISOString(),
    name,
    incarnation,
    view: progress.view === null ? null : viewName(progress.view),
    step: progress.step,
    phase: progress.phase,
    level: progress.level,
    shardSeconds: progress.shardMillis / 1000,
    images: progress.images,
    residentBytes: progress.residentBytes,
  };
}

/** Sums the steps of an epoch up; says nothing about an epoch of which it has not seen every step. */
export class EpochSum {
  readonly #stepsPerEpoch: number;
  #next = -1;
  #images = 0;
  #correct = 0;
  #loss: number | null = 0;

  constructor(stepsPerEpoch: number) {
    this.#stepsPerEpoch = stepsPerEpoch;
  }

  /** The epoch that ends with this step, else null. */
  add(message: StepMessage): EpochMessage | null {
    const { step, images, loss, accuracy } = message;
    if (step % this.#stepsPerEpoch === 0) {
      this.#next = step;
      this.#images = 0;
      this.#correct = 0;
      this.#loss = 0;
    }
    if (step !== this.#next) {
      // A repeat changes nothing; after a gap the rest of the epoch is passed over.
      if (step > this.#next) this.#next = -1;
      return null;
    }
    this.#next += 1;
    this.#images += images;
    this.#correct += Math.round(accuracy * images);
    this.#loss = this.#loss === null || loss === null ? null : this.#loss + loss * images;
    if (this.#next % this.#stepsPerEpoch !== 0) return null;
    const { run, view, epoch, from } = message;
    const total = Math.max(1, this.#images);
    return {
      run,
      view,
      step,
      epoch,
      from,
      loss: this.#loss === null ? null : this.#loss / total,
      accuracy: this.#correct / total,
      images: this.#images,
    };
  }
}
