/**
 * Where every tensor lies in the flat float32 vectors that a run is made of. The layout is a pure function of the
 * model's tensors and the bucket size, so that every worker of a run has the same one whatever the number of workers.
 *
 * State (weights, each optimizer slot, EMA) and gradients share offsets:
 *
 *     [ trainable tensors | moving statistics | tail ]
 *       0 ............ T    T ............ T+S   T+S .. T+S+BLOCK
 *
 * Each tensor starts on 16 floats (64 bytes, so that TensorFlow can share the memory); each section is padded to whole
 * blocks. A weight vector has the first two sections, a slot the first one, a gradient all three; the gradient's tail
 * holds sums that ride along (TAIL).
 */

/** Floats in one block, the unit of hashing and of segment boundaries (4 KiB). */
export const BLOCK = 1024;
/** Floats to which every tensor's start is aligned. */
export const ALIGN = 16;
/** Meaning of the floats in a gradient vector's tail. */
export const TAIL = { loss: 0, correct: 1, samples: 2 } as const;

export type TensorRole = "kernel" | "bias" | "gamma" | "beta" | "movingMean" | "movingVariance" | "other";

/** A tensor of the model, as the model's code declares it, in model order. */
export interface TensorSpec {
  readonly name: string;
  readonly shape: readonly number[];
  readonly role: TensorRole;
}

export interface TensorSlot extends TensorSpec {
  /** First float in the flat vector. */
  readonly offset: number;
  /** Number of floats, without padding. */
  readonly size: number;
  /** True where weight decay applies (kernels). */
  readonly decay: boolean;
}

/** A contiguous piece of the gradient vector that leaves as one, in whole blocks: [from, to) in floats. */
export interface Bucket {
  readonly index: number;
  readonly from: number;
  readonly to: number;
  /** Trainable buckets may travel as bfloat16; statistics and the tail never do. */
  readonly compressible: boolean;
}

export interface Layout {
  readonly trainable: readonly TensorSlot[];
  readonly statistics: readonly TensorSlot[];
  /** T: floats of the trainable section, a multiple of BLOCK. */
  readonly trainableFloats: number;
  /** S: floats of the statistics section, a multiple of BLOCK (0 without batch norm). */
  readonly statisticsFloats: number;
  /** T + S: floats of a weight vector. */
  readonly stateFloats: number;
  /** T + S + BLOCK: floats of a gradient vector. */
  readonly vectorFloats: number;
  /** In the order in which they leave: last layers first, then statistics with the tail. */
  readonly buckets: readonly Bucket[];
}

/** Is the tensor a moving statistic of batch norm, which is not trained? */
export const isStatistic = ({ role }: Pick<TensorSpec, "role">): boolean =>
  role === "movingMean" || role === "movingVariance";
const roundUp = (value: number, unit: number) => Math.ceil(value / unit) * unit;

/** Lays out the tensors of a model. `bucketBytes` is the target size of one bucket, rounded up to whole blocks. */
export function layoutOf(tensors: readonly TensorSpec[], bucketBytes: number): Layout {
  let next = 0;
  const place = (spec: TensorSpec): TensorSlot => {
    const size = spec.shape.reduce((product, extent) => product * extent, 1);
    const slot = { ...spec, offset: next, size, decay: spec.role === "kernel" };
    next = roundUp(next + size, ALIGN);
    return slot;
  };
  const trainable = tensors.filter((spec) => !isStatistic(spec)).map(place);
  const trainableFloats = roundUp(next, BLOCK);
  next = trainableFloats;
  const statistics = tensors.filter(isStatistic).map(place);
  const stateFloats = roundUp(next, BLOCK);
  const vectorFloats = stateFloats + BLOCK;
  return {
    trainable,
    statistics,
    trainableFloats,
    statisticsFloats: stateFloats - trainableFloats,
    stateFloats,
    vectorFloats,
    buckets: bucketsOf(trainableFloats, vectorFloats, Math.max(BLOCK, roundUp(bucketBytes / 4, BLOCK))),
  };
}

function bucketsOf(trainableFloats: number, vectorFloats: number, bucketFloats: number): Bucket[] {
  const buckets: Bucket[] = [];
  for (let to = trainableFloats; to > 0; to -= bucketFloats) {
    buckets.push({ index: buckets.length, from: Math.max(0, to - bucketFloats), to, compressible: true });
  }
  buckets.push({ index: buckets.length, from: trainableFloats, to: vectorFloats, compressible: false });
  return buckets;
}

/** What of a gradient vector belongs to no trainable tensor: padding, the statistics and the tail. */
export function gapsOf({ trainable, vectorFloats }: Pick<Layout, "trainable" | "vectorFloats">): FloatRange[] {
  const ends = [0, ...trainable.map(({ offset, size }) => offset + size)];
  const starts = [...trainable.map(({ offset }) => offset), vectorFloats];
  return starts.map((to, i) => ({ from: ends[i]!, to })).filter(({ from, to }) => from < to);
}

/** A half-open range of floats. */
export interface FloatRange {
  readonly from: number;
  readonly to: number;
}

/**
 * The segment of a bucket that owner `index` of `owners` reduces: whole blocks, sizes differing by at most one block.
 * Empty (from = to) where a bucket has fewer blocks than owners.
 */
export function segmentOf(bucket: Bucket, index: number, owners: number): FloatRange {
  const blocks = (bucket.to - bucket.from) / BLOCK;
  const at = (i: number) => bucket.from + Math.floor((blocks * i) / owners) * BLOCK;
  return { from: at(index), to: at(index + 1) };
}
