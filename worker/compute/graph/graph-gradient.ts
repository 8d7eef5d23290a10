import type { Tensor } from "@tensorflow/tfjs-core";
import type { Layout } from "../../../shared/model/layout.ts";
import { type Binding, backendOf, type NativeBackend } from "../backend.ts";
import type { BackwardPass, PassInputs, PassObserver } from "../backward-pass.ts";
import { statisticIndex } from "../eager-gradient.ts";
import type { GradientVector } from "../gradient-vector.ts";
import type { Execution } from "../shard-gradient.ts";
import type { TensorFlow } from "../tensorflow.ts";
import { drawMask, type MaskDraw, type MicroBatchKey } from "../training-mode.ts";
import { openSession } from "./graph-def.ts";
import { Recorder, type Ref } from "./recorder.ts";

/** Where an output of the graph belongs. */
type Target =
  | { readonly kind: "gradient" | "statistic"; readonly index: number }
  | { readonly kind: "loss" | "correct" };

interface MaskInput {
  readonly draw: MaskDraw;
  readonly shape: number[];
}

/** The recorded step of one shape of micro-batch. */
interface Compiled {
  readonly session: number;
  /** Images, labels, weights, then masks, as the session wants them: `name:0`, separated by commas. */
  readonly inputNames: string;
  readonly masks: readonly MaskInput[];
  readonly outputNames: string;
  readonly targets: readonly Target[];
}

/**
 * The whole forward and backward pass as one TensorFlow graph: recorded from one pass for each shape of micro-batch,
 * then run by one call.
 */
export class GraphGradient implements Execution {
  private readonly tf: TensorFlow;
  private readonly backend: NativeBackend;
  private readonly pass: BackwardPass;
  private readonly layout: Layout;
  /** By samples and side: two sizes for each resolution of the plan. */
  private readonly compiled = new Map<string, Compiled>();

  constructor(tf: TensorFlow, pass: BackwardPass, layout: Layout) {
    this.tf = tf;
    this.backend = backendOf(tf);
    this.pass = pass;
    this.layout = layout;
  }

  run(inputs: PassInputs, key: MicroBatchKey, into: GradientVector): { loss: number; correct: number } {
    const { tf, backend } = this;
    const graph = this.graphFor(inputs, key);
    const masks = graph.masks.map(({ draw, shape }) => tf.tensor(drawMask(key, draw, sizeOf(shape)), shape));
    const ids = backend.getInputTensorIds([inputs.images, inputs.labels, ...inputs.weights, ...masks]);
    const outputs = backend.binding.runSavedModel(graph.session, ids, graph.inputNames, graph.outputNames);
    try {
      return this.read(backend.binding, graph.targets, outputs, into);
    } finally {
      for (const { id } of outputs) backend.binding.deleteTensor(id);
    }
  }

  dispose(): void {
    for (const { session } of this.compiled.values()) this.backend.binding.deleteSavedModel(session);
    this.compiled.clear();
  }

  private read(
    binding: Binding,
    targets: readonly Target[],
    outputs: readonly { readonly id: number }[],
    into: GradientVector,
  ): { loss: number; correct: number } {
    const result = { loss: 0, correct: 0 };
    targets.forEach((target, i) => {
      const values = binding.tensorDataSync(outputs[i]!.id);
      if (target.kind === "gradient") into.gradient(target.index, values as Float32Array);
      else if (target.kind === "statistic") into.statistic(target.index, values as Float32Array);
      else result[target.kind] = values[0]!;
    });
    return result;
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
    const { tf, layout } = this;
    const recorder = new Recorder(tf);
    const names = [recorder.input("images", inputs.images), recorder.input("labels", inputs.labels)];
    for (const [i, weight] of inputs.weights.entries()) names.push(recorder.input(`weight_${i}`, weight));
    const masks: MaskInput[] = [];
    const outputs: { readonly ref: Ref; readonly target: Target }[] = [];
    const fetch = (target: Target, tensor: Tensor) => outputs.push({ ref: recorder.output(tensor), target });
    const observer: PassObserver = {
      gradient: (index, gradient) => void fetch({ kind: "gradient", index }, gradient),
      statistics: (layer, { mean, variance }) => {
        fetch({ kind: "statistic", index: statisticIndex(layout.statistics, layer, "mean") }, mean);
        fetch({ kind: "statistic", index: statisticIndex(layout.statistics, layer, "variance") }, variance);
      },
      mask: (draw, shape) => {
        const mask = tf.tensor(drawMask(key, draw, sizeOf(shape)), shape);
        names.push(recorder.input(`mask_${masks.length}`, mask));
        masks.push({ draw, shape: [...shape] });
        return mask;
      },
    };
    recorder.record(() =>
      this.pass.run(inputs, observer, (loss, correct) => {
        fetch({ kind: "loss" }, loss);
        fetch({ kind: "correct" }, correct);
      }),
    );
    return {
      session: openSession(this.backend.binding, recorder.nodes),
      inputNames: names.join(","),
      masks,
      outputNames: outputs.map(({ ref }) => ref).join(","),
      targets: outputs.map(({ target }) => target),
    };
  }
}

const sizeOf = (shape: readonly number[]) => shape.reduce((product, extent) => product * extent, 1);
