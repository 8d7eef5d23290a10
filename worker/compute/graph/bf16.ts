import type { Binding } from "../backend.ts";
import { type GraphNode, nodeOf, type Ref } from "./recorder.ts";
import type { Recording } from "./recording.ts";

/** TensorFlow's DT_BFLOAT16, which TensorFlow.js does not know. */
const BFLOAT16 = 14;

/** Which inputs and outputs of an operation have its type T; all others keep theirs. */
interface Typed {
  readonly inputs: readonly number[];
  readonly outputs: readonly number[];
}

/** Where the arithmetic is: always in bfloat16, whatever their inputs were. */
const CONVOLUTIONS: Readonly<Record<string, Typed>> = {
  Conv2D: { inputs: [0, 1], outputs: [0] },
  Conv2DBackpropInput: { inputs: [1, 2], outputs: [0] },
  Conv2DBackpropFilter: { inputs: [0, 2], outputs: [0] },
};

/**
 * What lies between convolutions: in bfloat16 where an activation comes in so already, to save the conversions and half
 * of the memory's traffic. Batch norm computes and keeps its statistics, scale and offset in float32 (its type U).
 */
const BETWEEN: Readonly<Record<string, Typed>> = {
  FusedBatchNormV3: { inputs: [0], outputs: [0] },
  FusedBatchNormGradV3: { inputs: [0, 1], outputs: [0] },
  Relu: { inputs: [0], outputs: [0] },
  ReluGrad: { inputs: [0, 1], outputs: [0] },
  Add: { inputs: [0, 1], outputs: [0] },
  AddV2: { inputs: [0, 1], outputs: [0] },
  MaxPool: { inputs: [0], outputs: [0] },
  MaxPoolGrad: { inputs: [0, 1, 2], outputs: [0] },
  AvgPool: { inputs: [0], outputs: [0] },
  AvgPoolGrad: { inputs: [1], outputs: [0] },
};

/**
 * The same graph with its convolutions in bfloat16: images, weights, gradients and whatever else is fed or fetched stays
 * float32, sums inside a kernel too. Conversions are shared by all who read the same output.
 */
export function inBfloat16(binding: Binding, recording: Recording): Recording {
  const bfloat16 = new Set<Ref>();
  const casts = new Map<string, Ref>();
  const result: GraphNode[] = [];
  const cast = (ref: Ref, to: number): Ref => {
    const key = `${ref}>${to}`;
    let made = casts.get(key);
    if (made === undefined) {
      const name = `Cast_to_${to}_${nodeOf(ref)}_${ref.slice(ref.lastIndexOf(":") + 1)}`;
      const from = to === BFLOAT16 ? binding.TF_FLOAT : BFLOAT16;
      const attributes = [
        { name: "SrcT", type: binding.TF_ATTR_TYPE, value: from },
        { name: "DstT", type: binding.TF_ATTR_TYPE, value: to },
        { name: "Truncate", type: binding.TF_ATTR_BOOL, value: false },
      ];
      result.push({ name, op: "Cast", attributes, inputs: [ref] });
      made = `${name}:0`;
      casts.set(key, made);
    }
    return made;
  };
  const plain = (ref: Ref) => (bfloat16.has(ref) ? cast(ref, binding.TF_FLOAT) : ref);
  const short = (ref: Ref) => (bfloat16.has(ref) ? ref : cast(ref, BFLOAT16));

  for (const node of recording.nodes) {
    const typed = typedBy(node, bfloat16, binding);
    if (typed === null) {
      result.push({ ...node, inputs: node.inputs.map(plain) });
      continue;
    }
    const inputs = node.inputs.map((ref, i) => (typed.inputs.includes(i) ? short(ref) : plain(ref)));
    const attributes = node.attributes.map((attribute) =>
      attribute.name === "T" ? { ...attribute, value: BFLOAT16 } : attribute,
    );
    result.push({ ...node, attributes, inputs });
    for (const output of typed.outputs) bfloat16.add(`${node.name}:${output}`);
  }
  const results = recording.results.map(({ ref, target }) => ({ ref: plain(ref), target }));
  return { ...recording, nodes: result, results };
}

function typedBy({ op, attributes, inputs }: GraphNode, bfloat16: ReadonlySet<Ref>, binding: Binding): Typed | null {
  const convolution = CONVOLUTIONS[op];
  if (convolution !== undefined) return convolution;
  const between = BETWEEN[op];
  if (between === undefined) return null;
  if (attributes.find(({ name }) => name === "T")?.value !== binding.TF_FLOAT) return null;
  return between.inputs.some((i) => bfloat16.has(inputs[i]!)) ? between : null;
}
