import { LockstepError } from "../errors.ts";
import { DOMAIN, type Domain, Stream } from "./random.ts";

/** A micro-batch needs two samples, since one has no variance for batch norm. */
export const SMALLEST_MICRO_BATCH = 2;

/**
 * Deals the training samples to `shards` shards, once for the whole run: each class is shuffled, then all are dealt in
 * turn like cards. Shard sizes differ by at most one, and so do the shards' numbers of samples of any class.
 * @param labels class of each sample, any integers.
 * @param domain of the draws
 * @returns the sample ids of each shard, in dealing order.
 */
export function deal(
  labels: ArrayLike<number>,
  shards: number,
  seed: number,
  domain: Domain = DOMAIN.deal,
): Int32Array[] {
  if (!Number.isInteger(shards) || shards < 1) throw new RangeError(`${shards} shards`);
  const byClass = new Map<number, number[]>();
  for (let id = 0; id < labels.length; id++) {
    const label = labels[id]!;
    const ids = byClass.get(label);
    if (ids === undefined) byClass.set(label, [id]);
    else ids.push(id);
  }
  const hands: number[][] = Array.from({ length: shards }, () => []);
  let next = 0;
  for (const label of [...byClass.keys()].sort((a, b) => a - b)) {
    for (const id of new Stream(seed, domain, label).shuffle(byClass.get(label)!)) {
      hands[next]!.push(id);
      next = (next + 1) % shards;
    }
  }
  return hands.map((ids) => Int32Array.from(ids));
}

/** How many samples shard `shard` holds when `trainImages` are dealt to `shards`. */
export function shardSize(trainImages: number, shards: number, shard: number): number {
  return Math.floor(trainImages / shards) + (shard < trainImages % shards ? 1 : 0);
}

/**
 * Steps of an epoch whose global batch comes nearest to `batch` samples while every micro-batch keeps at least two.
 * With this number all micro-batches of all steps and shards differ in size by at most one.
 * @throws LockstepError LS_PLAN_TOO_FEW_IMAGES where a shard would hold fewer than two samples.
 */
export function stepsPerEpoch(trainImages: number, batch: number, shards: number): number {
  const smallestShard = Math.floor(trainImages / shards);
  if (smallestShard < SMALLEST_MICRO_BATCH) {
    throw new LockstepError(
      "LS_PLAN_TOO_FEW_IMAGES",
      `${trainImages} training images cannot fill ${shards} shards with ${SMALLEST_MICRO_BATCH} each.`,
      { hint: "Use fewer shards (--shards) or more images.", exitCode: 2 },
    );
  }
  const most = Math.floor(smallestShard / SMALLEST_MICRO_BATCH);
  return Math.min(most, Math.max(1, Math.round(trainImages / batch)));
}

/** Sizes of a shard's micro-batches in an epoch: `extra` steps have one sample more, from step `first` on, cyclically. */
export interface Cut {
  readonly base: number;
  readonly extra: number;
  readonly first: number;
  readonly steps: number;
}

/**
 * How every shard is cut into the micro-batches of an epoch. The shards' larger micro-batches follow one another around
 * the epoch, so that the global batches of any two steps differ by at most one as well.
 */
export function cutsOf(trainImages: number, shards: number, steps: number): Cut[] {
  let next = 0;
  return Array.from({ length: shards }, (_, shard) => {
    const size = shardSize(trainImages, shards, shard);
    const cut = { base: Math.floor(size / steps), extra: size % steps, first: next, steps };
    next = (next + cut.extra) % steps;
    return cut;
  });
}

/** Samples of the micro-batch of step `step` of an epoch. */
export function cutSize(cut: Cut, step: number): number {
  const behindFirst = (step - cut.first + cut.steps) % cut.steps;
  return cut.base + (behindFirst < cut.extra ? 1 : 0);
}

/** Samples of the shard in the steps of an epoch before `step`. */
export function cutStart(cut: Cut, step: number): number {
  const end = cut.first + cut.extra;
  const plain = Math.max(0, Math.min(step, end) - cut.first);
  const wrapped = Math.max(0, Math.min(step, end - cut.steps));
  return step * cut.base + plain + wrapped;
}
