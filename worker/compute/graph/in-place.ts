import type { Layout } from "../../../shared/model/layout.ts";
import type { Binding } from "../backend.ts";
import type { GraphNode, Ref } from "./recorder.ts";
import type { Recording, Result, Target } from "./recording.ts";

/** Where in a gradient vector a result is written. */
export interface Slot {
  readonly offset: number;
  readonly size: number;
}

/**
 * The same recording, its gradients and statistics written by the graph itself into tensors that are fed over the
 * gradient vector's memory, at one copy each; fetching them costs an allocation and two copies. InplaceUpdate writes into
 * the very buffer of its input, and TensorFlow's optimizers know that it does. Loss and correct are fetched still, and come
 * after all writes.
 * @param samples that statistics are multiplied with, so that sums over shards divide into count-weighted means
 */
export function writingInPlace(
  binding: Binding,
  layout: Layout,
  { nodes, inputs, masks, results }: Recording,
  samples: number,
): Recording & { readonly slots: readonly Slot[] } {
  const more: GraphNode[] = [];
  const type = (name: string, value: number) => ({ name, type: binding.TF_ATTR_TYPE, value });
  const float = type("T", binding.TF_FLOAT);
  const constant = (name: string, dtype: number, shape: readonly number[], values: Int32Array | Float32Array): Ref => {
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    more.push({ name, op: "Const", attributes: [], inputs: [], constant: { dtype, shape, bytes } });
    return `${name}:0`;
  };
  const row = constant("row", binding.TF_INT32, [1], new Int32Array([0]));
  const count = constant("samples", binding.TF_FLOAT, [], new Float32Array([samples]));
  const slots: Slot[] = [];
  const fed: Ref[] = [];
  const written: string[] = [];
  const write = (ref: Ref, kind: string, { offset, size }: Slot) => {
    const i = slots.length;
    const shape = constant(`slot_shape_${i}`, binding.TF_INT32, [2], new Int32Array([1, size]));
    const place: GraphNode = {
      name: `slot_${i}`,
      op: "Placeholder",
      attributes: [type("dtype", binding.TF_FLOAT), { name: "shape", type: binding.TF_ATTR_SHAPE, value: [1, size] }],
      inputs: [],
    };
    const reshape = [float, type("Tshape", binding.TF_INT32)];
    more.push(place, { name: `slot_row_${i}`, op: "Reshape", attributes: reshape, inputs: [ref, shape] });
    let value: Ref = `slot_row_${i}:0`;
    if (kind === "statistic") {
      more.push({ name: `slot_sum_${i}`, op: "Mul", attributes: [float], inputs: [value, count] });
      value = `slot_sum_${i}:0`;
    }
    more.push({
      name: `slot_write_${i}`,
      op: "InplaceUpdate",
      attributes: [float],
      inputs: [`slot_${i}:0`, row, value],
    });
    written.push(`slot_write_${i}`);
    fed.push(`slot_${i}:0`);
    slots.push({ offset, size });
  };
  const sums: Result[] = [];
  for (const result of results) {
    const slot = slotOf(layout, result.target);
    if (slot === null) sums.push(result);
    else write(result.ref, result.target.kind, slot);
  }
  const fetched = sums.map(({ ref, target }): Result => {
    const dtype = target.kind === "loss" ? binding.TF_FLOAT : binding.TF_INT32;
    const name = `after_writes_${target.kind}`;
    more.push({ name, op: "Identity", attributes: [type("T", dtype)], inputs: [ref], after: written });
    return { ref: `${name}:0`, target };
  });
  return { nodes: [...nodes, ...more], inputs: [...inputs, ...fed], masks, results: fetched, slots };
}

function slotOf(layout: Layout, target: Target): Slot | null {
  if (target.kind === "gradient") return layout.trainable[target.index]!;
  return target.kind === "statistic" ? layout.statistics[target.index]! : null;
}
