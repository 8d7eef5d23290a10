import type { Recipe } from "../../shared/config/schema.ts";

/**
 * One prepared micro-batch in shared memory:
 *
 *     header (64 bytes) | labels int32 [n] | ids int32 [n] | images float32 [n, side, side, channels]
 *
 * and between ids and images, where the recipe mixes images:
 *
 *     other labels int32 [n] | shares float32 [n]
 *
 * Each part starts on 64 bytes, so that TensorFlow may share the images.
 */
export interface SlotLayout {
  readonly maxSamples: number;
  readonly labels: number;
  readonly ids: number;
  /** Where each image has a partner, and a share of its own; null where the recipe mixes none. */
  readonly mixed: { readonly labels: number; readonly shares: number } | null;
  readonly images: number;
  /** Bytes of one slot. */
  readonly bytes: number;
}

/**
 * The first word of a header. The pool asks, a loader thread answers ready or failed; the pool takes and frees. What is
 * asked for and not wanted any more is dropped: the thread at work on it frees the slot.
 */
export const SLOT_STATE = { free: 0, asked: 1, ready: 2, failed: 3, taken: 4, dropped: 5 } as const;

/** Cells of the header, in words of 32 bits. */
export const HEADER = { state: 0, samples: 1, side: 2, digestLow: 3, digestHigh: 4 } as const;

const HEADER_BYTES = 64;
const aligned = (bytes: number) => Math.ceil(bytes / 64) * 64;

/** Where the parts of a slot lie, from its start. One sample more than planned fits, for the test of a repeated id. */
export function slotLayout(recipe: Recipe): SlotLayout {
  const { trainImages, channels } = recipe.data;
  const maxSamples = Math.ceil(Math.ceil(trainImages / recipe.shards) / recipe.stepsPerEpoch) + 1;
  const side = Math.max(...recipe.resolutions.map((resolution) => resolution.side));
  const labels = HEADER_BYTES;
  const ids = labels + aligned(maxSamples * 4);
  const part = aligned(maxSamples * 4);
  const mixed = recipe.mixing === undefined ? null : { labels: ids + part, shares: ids + 2 * part };
  const images = ids + (mixed === null ? part : 3 * part);
  return { maxSamples, labels, ids, mixed, images, bytes: images + aligned(maxSamples * side * side * channels * 4) };
}

/** The header's cells. */
export const headerOf = (memory: WebAssembly.Memory, address: number): Int32Array =>
  new Int32Array(memory.buffer, address, HEADER_BYTES / 4);

/** Side of the training images in an epoch. */
export function sideOf(recipe: Recipe, epoch: number): number {
  return (
    recipe.resolutions.findLast((resolution) => resolution.fromEpoch <= epoch)?.side ?? recipe.resolutions[0]!.side
  );
}
