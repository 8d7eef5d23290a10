import type { Recipe } from "../../shared/config/schema.ts";

/**
 * One prepared micro-batch in shared memory:
 *
 *     header (64 bytes: state, samples, side) | labels int32 | ids int32 | images float32 [n, side, side, channels]
 *
 * Each part starts on 64 bytes, so that TensorFlow may share the images.
 */
export const SLOT_STATE = { free: 0, asked: 1, ready: 2, failed: 3 } as const;

export interface SlotLayout {
  readonly maxSamples: number;
  readonly labels: number;
  readonly ids: number;
  readonly images: number;
  /** Bytes of one slot. */
  readonly bytes: number;
}

const HEADER = 64;
const aligned = (bytes: number) => Math.ceil(bytes / 64) * 64;

/** Where the parts of a slot lie, from its start. One sample more than planned fits, for the test of a repeated id. */
export function slotLayout(recipe: Recipe): SlotLayout {
  const maxSamples = Math.ceil(recipe.data.trainImages / recipe.shards / recipe.stepsPerEpoch) + 1;
  const side = Math.max(...recipe.resolutions.map((resolution) => resolution.side));
  const labels = HEADER;
  const ids = labels + aligned(maxSamples * 4);
  const images = ids + aligned(maxSamples * 4);
  return { maxSamples, labels, ids, images, bytes: images + aligned(maxSamples * side * side * recipe.data.channels * 4) };
}

/** The header's cells: state, samples, side. */
export const headerOf = (memory: WebAssembly.Memory, address: number): Int32Array =>
  new Int32Array(memory.buffer, address, 3);

/** Side of the training images in an epoch. */
export function sideOf(recipe: Recipe, epoch: number): number {
  return recipe.resolutions.findLast((resolution) => resolution.fromEpoch <= epoch)?.side ?? recipe.resolutions[0]!.side;
}
