import { createHash } from "node:crypto";
import type { Layout, TensorSlot } from "./layout.ts";

/**
 * What leaves a run as "the model": every tensor of a flat weight vector without padding, in model order, trainable
 * tensors first, then moving statistics. Names are `layer/tensor`, shapes are TensorFlow's (kernels of convolutions
 * [height, width, in, out], of dense layers [in, out]).
 */
export const exportedSlots = (layout: Pick<Layout, "trainable" | "statistics">): readonly TensorSlot[] => [
  ...layout.trainable,
  ...layout.statistics,
];

/** The tensors' values, in that order, as views of a flat weight vector. */
export const exportedValues = (
  layout: Pick<Layout, "trainable" | "statistics">,
  vector: Float32Array,
): Float32Array[] => exportedSlots(layout).map(({ offset, size }) => vector.subarray(offset, offset + size));

/** The bytes of a view; Lockstep runs on little-endian machines only, so that they are the little-endian bytes. */
export const bytesOf = (values: Float32Array): Uint8Array =>
  new Uint8Array(values.buffer, values.byteOffset, values.byteLength);

/** SHA-256 of the float32 little-endian bytes of the exported tensors: `weightsSha256`, 64 hex digits. */
export function weightsSha256(layout: Pick<Layout, "trainable" | "statistics">, vector: Float32Array): string {
  const hash = createHash("sha256");
  for (const values of exportedValues(layout, vector)) hash.update(bytesOf(values));
  return hash.digest("hex");
}
