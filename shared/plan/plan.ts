import { LockstepError } from "../errors.ts";
import { type Cut, cutSize, cutStart, cutsOf, deal, SMALLEST_MICRO_BATCH } from "./deal.ts";
import { DOMAIN, Stream } from "./random.ts";

export { stepsPerEpoch } from "./deal.ts";

export interface PlanSettings {
  /** Class of every training sample, in the order of the data set. */
  readonly labels: ArrayLike<number>;
  readonly seed: number;
  /** V. */
  readonly shards: number;
  readonly stepsPerEpoch: number;
}

/** Epochs whose orders are kept: the current one and, around its end, the next. */
const KEPT_EPOCHS = 2;

/**
 * Which samples a micro-batch holds: a pure function of (seed, epoch, step, shard). Samples are dealt to shards once,
 * stratified by class; each epoch permutes inside a shard; the micro-batches of a shard cut its order into pieces. So
 * every sample is in exactly one step of an epoch, whoever computes it. Micro-batches differ in size by at most one,
 * and so do global batches.
 */
export class Plan {
  readonly trainImages: number;
  readonly shards: number;
  readonly stepsPerEpoch: number;
  readonly #seed: number;
  readonly #dealt: readonly Int32Array[];
  readonly #cuts: readonly Cut[];
  /** Orders by epoch and shard, made when they are first asked for. */
  readonly #orders = new Map<number, (Int32Array | undefined)[]>();

  /** @throws LockstepError LS_PLAN_TOO_FEW_IMAGES where a micro-batch would have fewer than two samples. */
  constructor({ labels, seed, shards, stepsPerEpoch }: PlanSettings) {
    if (!Number.isInteger(stepsPerEpoch) || stepsPerEpoch < 1) throw new RangeError(`${stepsPerEpoch} steps per epoch`);
    if (Math.floor(Math.floor(labels.length / shards) / stepsPerEpoch) < SMALLEST_MICRO_BATCH) {
      throw new LockstepError(
        "LS_PLAN_TOO_FEW_IMAGES",
        `${labels.length} images in ${shards} shards and ${stepsPerEpoch} steps leave micro-batches of fewer than ` +
          `${SMALLEST_MICRO_BATCH} samples.`,
        { hint: "Use fewer shards (--shards) or a larger batch (--batch).", exitCode: 2 },
      );
    }
    this.trainImages = labels.length;
    this.shards = shards;
    this.stepsPerEpoch = stepsPerEpoch;
    this.#seed = seed;
    this.#dealt = deal(labels, shards, seed);
    this.#cuts = cutsOf(labels.length, shards, stepsPerEpoch);
  }

  /**
   * Sample ids of the micro-batch of `shard` in step `step` of the run, in the order in which they are fed. A view of
   * the epoch's order: it stays valid and must not be written.
   */
  microBatch(step: number, shard: number): Int32Array {
    const cut = this.#cut(shard);
    const inEpoch = step % this.stepsPerEpoch;
    const from = cutStart(cut, inEpoch);
    return this.#order(Math.floor(step / this.stepsPerEpoch), shard).subarray(from, from + cutSize(cut, inEpoch));
  }

  /** Samples of all shards in a step: the count by which the update divides. */
  globalCount(step: number): number {
    const inEpoch = step % this.stepsPerEpoch;
    return this.#cuts.reduce((sum, cut) => sum + cutSize(cut, inEpoch), 0);
  }

  /** Samples of one micro-batch. */
  sizeOf(step: number, shard: number): number {
    return cutSize(this.#cut(shard), step % this.stepsPerEpoch);
  }

  /** The sizes that micro-batches have, ascending: one, or two neighbouring numbers. */
  sizes(): number[] {
    return sizesOf(this.#cuts);
  }

  #cut(shard: number): Cut {
    const cut = this.#cuts[shard];
    if (cut === undefined) throw new RangeError(`shard ${shard} of ${this.shards}`);
    return cut;
  }

  #order(epoch: number, shard: number): Int32Array {
    let orders = this.#orders.get(epoch);
    if (orders === undefined) {
      orders = [];
      this.#orders.set(epoch, orders);
      if (this.#orders.size > KEPT_EPOCHS) this.#orders.delete(this.#orders.keys().next().value!);
    }
    orders[shard] ??= new Stream(this.#seed, DOMAIN.order, epoch, shard).shuffle(this.#dealt[shard]!.slice());
    return orders[shard];
  }
}

/** The sizes that micro-batches of a run have, without its labels: ascending, one or two neighbouring numbers. */
export function microBatchSizes(trainImages: number, shards: number, stepsPerEpoch: number): number[] {
  return sizesOf(cutsOf(trainImages, shards, stepsPerEpoch));
}

function sizesOf(cuts: readonly Cut[]): number[] {
  const sizes = new Set<number>();
  for (const { base, extra, steps } of cuts) {
    if (extra < steps) sizes.add(base);
    if (extra > 0) sizes.add(base + 1);
  }
  return [...sizes].sort((a, b) => a - b);
}
