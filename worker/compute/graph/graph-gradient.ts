import type { Tensor } from "@tensorflow/tfjs-core";
import type { Recipe } from "../../../shared/config/schema.ts";
import type { Layout } from "../../../shared/model/layout.ts";
import { backendOf, type NativeBackend } from "../backend.ts";
import type { BackwardPass, PassInputs } from "../backward-pass.ts";
import type { GradientVector } from "../gradient-vector.ts";
import type { Execution } from "../shard-gradient.ts";
import { bindTensor, type TensorFlow } from "../tensorflow.ts";
import { drawMask, type MicroBatchKey } from "../training-mode.ts";
import { inBfloat16 } from "./bf16.ts";
import { openSession } from "./graph-def.ts";
import { type Slot, writingInPlace } from "./in-place.ts";
import { type MaskInput, recordPass, type Target } from "./recording.ts";

/** The recorded step of one shape of micro-batch. */
interface Compiled {
  readonly session: number;
  /** As the session wants them: `name:0`, separated by commas. */
  readonly inputNames: string;
  readonly outputNames: string;
  readonly masks: readonly MaskInput[];
  /** What the graph writes itself; empty where memory is not shared. */
  readonly slots: readonly Slot[];
  /** What each output is. */
  readonly targets: readonly Target[];
  /** Indices in layout.trainable, in the order in which their gradients come to be. */
  readonly order: readonly number[];
}

export interface GraphOptions {
  readonly layout: Layout;
  readonly memory: WebAssembly.Memory;
  readonly precision: Recipe["precision"];
  /** Whether tensors over the memory share it, so that the graph can write into it. */
  readonly shared: boolean;
}

/**
 * The whole forward and backward pass as one TensorFlow graph: recorded from one pass for each shape of micro-batch,
 * then run by one call.
 */
export class GraphGradient implements Execution {
  private readonly tf: TensorFlow;
  private readonly backend: NativeBackend;
  private readonly pass: BackwardPass;
  private readonly options: GraphOptions;
  /** By the shape of the images: two sizes for each resolution of the plan. */
  private readonly compiled = new Map<string, Compiled>();
  /** Tensors over the slots of gradient vectors, by the vector's address and the slot's offset. */
  private readonly slots = new Map<number, Tensor>();

  constructor(tf: TensorFlow, pass: BackwardPass, options: GraphOptions) {
    this.tf = tf;
    this.backend = backendOf(tf);
    this.pass = pass;
    this.options = options;
  }

  run(inputs: PassInputs, key: MicroBatchKey, into: GradientVector): { loss: number; correct: number } {
    const { backend } = this;
    const { binding } = backend;
    const graph = this.graphFor(inputs, key);
    const masks = graph.masks.map(({ draw, shape }) => drawMask(this.tf, key, draw, shape));
    const slots = graph.slots.map((slot) => this.slotTensor(into.address, slot));
    const { images, labels, mixed, weights } = inputs;
    const others = mixed === null ? [] : [mixed.labels, mixed.shares];
    const ids = backend.getInputTensorIds([images, labels, ...others, ...weights, ...masks, ...slots]);
    const outputs = binding.runSavedModel(graph.session, ids, graph.inputNames, graph.outputNames);
    const result = { loss: 0, correct: 0 };
    try {
      for (const [i, target] of graph.targets.entries()) {
        const values = binding.tensorDataSync(outputs[i]!.id) as Float32Array;
        if (target.kind === "gradient") into.gradient(target.index, values);
        else if (target.kind === "statistic") into.statistic(target.index, values);
        else result[target.kind] = values[0]!;
      }
      if (graph.slots.length > 0) for (const index of graph.order) into.written(index);
    } finally {
      for (const { id } of outputs) binding.deleteTensor(id);
    }
    return result;
  }

  dispose(): void {
    for (const { session } of this.compiled.values()) this.backend.binding.deleteSavedModel(session);
    this.compiled.clear();
    this.tf.dispose([...this.slots.values()]);
    this.slots.clear();
  }

  private slotTensor(address: number, { offset, size }: Slot): Tensor {
    const at = address + offset * 4;
    let tensor = this.slots.get(at);
    if (tensor === undefined) {
      tensor = this.tf.keep(bindTensor(this.tf, this.options.memory, at, [1, size]));
      this.slots.set(at, tensor);
    }
    return tensor;
  }

  private graphFor(inputs: PassInputs, key: MicroBatchKey): Compiled {
    const shape = String(inputs.images.shape);
    let graph = this.compiled.get(shape);
    if (graph === undefined) {
      graph = this.compile(inputs, key);
      this.compiled.set(shape, graph);
    }
    return graph;
  }

  private compile(inputs: PassInputs, key: MicroBatchKey): Compiled {
    const { layout, precision, shared } = this.options;
    const { binding } = this.backend;
    const recorded = recordPass(this.tf, this.pass, inputs, key);
    const typed = precision === "bf16" ? inBfloat16(binding, recorded) : recorded;
    const graph = shared ? writingInPlace(binding, layout, typed, inputs.images.shape[0]) : { ...typed, slots: [] };
    return {
      session: openSession(binding, graph.nodes),
      inputNames: graph.inputs.join(","),
      outputNames: graph.results.map(({ ref }) => ref).join(","),
      masks: graph.masks,
      slots: graph.slots,
      targets: graph.results.map(({ target }) => target),
      order: recorded.results.flatMap(({ target }) => (target.kind === "gradient" ? [target.index] : [])),
    };
  }
}
