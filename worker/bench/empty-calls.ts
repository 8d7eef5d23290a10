import { type Binding, backendOf } from "../compute/backend.ts";
import { openSession } from "../compute/graph/graph-def.ts";
import type { GraphNode, Ref } from "../compute/graph/recorder.ts";
import type { TensorFlow } from "../compute/tensorflow.ts";
import { spreadOf } from "./spread.ts";

/** Milliseconds of an operation that does nothing: the add-on, and TensorFlow's own way to a kernel. */
export function emptyOperation(tf: TensorFlow): number {
  const backend = backendOf(tf);
  const { binding } = backend;
  const scalar = tf.scalar(1);
  const ids = backend.getInputTensorIds([scalar]);
  const attributes = [{ name: "T", type: binding.TF_ATTR_TYPE, value: binding.TF_FLOAT }];
  const times: number[] = [];
  for (let i = 0; i < 2000; i++) {
    const started = performance.now();
    const [output] = binding.executeOp("Identity", attributes, ids, 1);
    binding.deleteTensor(output!.id);
    times.push(performance.now() - started);
  }
  scalar.dispose();
  return spreadOf(times).median;
}

/**
 * A graph that takes the same inputs and computes nothing: what a run costs beside the arithmetic. Opened for the inputs of
 * the first run, which all later ones have too.
 */
export class EmptyGraph {
  private readonly binding: Binding;
  private session: number | null = null;

  constructor(tf: TensorFlow) {
    this.binding = backendOf(tf).binding;
  }

  /** Milliseconds of one run on inputs that another graph just took. */
  run(ids: number[], names: string): number {
    const { binding } = this;
    this.session ??= openSession(binding, emptyNodes(binding, names));
    const started = performance.now();
    const outputs = binding.runSavedModel(this.session, ids, names, "nothing:0,nothing_more:0");
    for (const { id } of outputs) binding.deleteTensor(id);
    return performance.now() - started;
  }

  dispose(): void {
    if (this.session !== null) this.binding.deleteSavedModel(this.session);
    this.session = null;
  }
}

function emptyNodes(binding: Binding, names: string): GraphNode[] {
  const inputs = (names.split(",") as Ref[]).map((ref): GraphNode => {
    const name = ref.replace(/:0$/, "");
    const dtype = name === "labels" ? binding.TF_INT32 : binding.TF_FLOAT;
    return {
      name,
      op: "Placeholder",
      attributes: [{ name: "dtype", type: binding.TF_ATTR_TYPE, value: dtype }],
      inputs: [],
    };
  });
  const constant = { dtype: binding.TF_FLOAT, shape: [], bytes: new Uint8Array(4) };
  const outputs = ["nothing", "nothing_more"].map((name): GraphNode => {
    return { name, op: "Const", attributes: [], inputs: [], constant };
  });
  return [...inputs, ...outputs];
}
