import { DOMAIN, Stream } from "./random.ts";

/**
 * Which samples a micro-batch holds: a pure function of (seed, epoch, step, shard). Samples are dealt to shards once,
 * stratified by class; each epoch permutes inside a shard; the micro-batches of a shard cut its order into pieces whose
 * sizes differ by at most one. So every sample is in exactly one step of an epoch, whoever computes it.
 */
export interface PlanSettings {
  /** Class of every training sample. */
  readonly labels: ArrayLike<number>;
  readonly seed: number;
  /** V. */
  readonly shards: number;
  readonly stepsPerEpoch: number;
}

/** Smallest micro-batch: batch norm needs a variance. */
const SMALLEST = 2;

/**
 * Steps of one epoch for a planned global batch: trainImages / batch rounded, but no more than leave every micro-batch at
 * least two samples; 0 where even one step cannot.
 */
export function stepsPerEpoch(trainImages: number, batch: number, shards: number): number {
  const smallestShard = Math.floor(trainImages / shards);
  const most = Math.floor(smallestShard / SMALLEST);
  return Math.min(most, Math.max(1, Math.round(trainImages / batch)));
}

/** Deals sample ids to shards, class by class in turn, so that sizes and class counts differ by at most one. */
export function deal(labels: ArrayLike<number>, shards: number, seed: number): Int32Array[] {
  const byClass = new Map<number, number[]>();
  for (let id = 0; id < labels.length; id++) {
    const members = byClass.get(labels[id]!) ?? [];
    byClass.set(labels[id]!, members);
    members.push(id);
  }
  const dealt: number[][] = Array.from({ length: shards }, () => []);
  let next = 0;
  for (const label of [...byClass.keys()].sort((a, b) => a - b)) {
    const members = byClass.get(label)!;
    new Stream(seed, DOMAIN.deal, label).shuffle(members);
    for (const id of members) dealt[next++ % shards]!.push(id);
  }
  return dealt.map((ids) => Int32Array.from(ids));
}

export class Plan {
  readonly shards: number;
  readonly stepsPerEpoch: number;
  private readonly seed: number;
  private readonly dealt: readonly Int32Array[];
  /** Orders of the epochs last asked for, by shard: a loader runs at most a step ahead. */
  private readonly orders = new Map<string, Int32Array>();

  constructor({ labels, seed, shards, stepsPerEpoch: steps }: PlanSettings) {
    this.shards = shards;
    this.stepsPerEpoch = steps;
    this.seed = seed;
    this.dealt = deal(labels, shards, seed);
  }

  /** Sample ids of the micro-batch of `shard` in global step `step`, in the order in which they are fed. */
  microBatch(step: number, shard: number): Int32Array {
    const epoch = Math.floor(step / this.stepsPerEpoch);
    const inEpoch = step % this.stepsPerEpoch;
    const order = this.order(epoch, shard);
    const at = (i: number) => Math.floor((i * order.length) / this.stepsPerEpoch);
    return order.subarray(at(inEpoch), at(inEpoch + 1));
  }

  /** Samples of all shards in a step: the count by which the update divides. */
  globalCount(step: number): number {
    let count = 0;
    for (let shard = 0; shard < this.shards; shard++) count += this.sizeOf(step, shard);
    return count;
  }

  sizeOf(step: number, shard: number): number {
    const length = this.dealt[shard]!.length;
    const inEpoch = step % this.stepsPerEpoch;
    const at = (i: number) => Math.floor((i * length) / this.stepsPerEpoch);
    return at(inEpoch + 1) - at(inEpoch);
  }

  /** The sizes that micro-batches have, ascending: one or two. */
  sizes(): number[] {
    const sizes = new Set<number>();
    for (let step = 0; step < this.stepsPerEpoch; step++) {
      for (let shard = 0; shard < this.shards; shard++) sizes.add(this.sizeOf(step, shard));
    }
    return [...sizes].sort((a, b) => a - b);
  }

  private order(epoch: number, shard: number): Int32Array {
    const key = `${epoch}/${shard}`;
    const known = this.orders.get(key);
    if (known !== undefined) return known;
    const order = this.dealt[shard]!.slice();
    new Stream(this.seed, DOMAIN.order, epoch, shard).shuffle(order);
    this.orders.set(key, order);
    if (this.orders.size > 2 * this.shards) this.orders.delete(this.orders.keys().next().value!);
    return order;
  }
}
