import { layoutOf } from "../../shared/model/layout.ts";
import { DOMAIN, Stream } from "../../shared/plan/random.ts";
import { initialWeights, tensorsOf } from "../compute/model-tensors.ts";
import { buildModel } from "../compute/models/index.ts";
import { type GradientOptions, ShardGradient } from "../compute/shard-gradient.ts";
import { sharesMemory, type TensorFlow } from "../compute/tensorflow.ts";
import { BindingMeter } from "./binding-meter.ts";
import { EmptyGraph, emptyOperation } from "./empty-calls.ts";

/** Models that are timed: the built-in ones, and ResNet-18 with a 3x3 stem of stride 2, 11.2 M parameters. */
export const BENCH_MODELS: Readonly<
  Record<string, { readonly name: string; readonly options: Record<string, number[]> }>
> = {
  alexnet: { name: "alexnet", options: {} },
  resnet: { name: "resnet", options: {} },
  resnet11: { name: "resnet11", options: {} },
  resnet18: { name: "resnet", options: { blocks: [2, 2, 2, 2], widths: [64, 128, 256, 512] } },
};

export type BenchMode = Pick<GradientOptions["recipe"], "execution" | "precision">;

/** One micro-batch's times, in milliseconds. */
export interface StepTimes {
  readonly wall: number;
  /** Of all threads of the process: on a busy machine the better figure. */
  readonly cpu: number;
}

/** What the way into TensorFlow costs for one micro-batch; milliseconds. */
export interface DispatchTimes {
  readonly calls: number;
  readonly operations: number;
  readonly javascript: number;
  /** The same calls without arithmetic: an empty graph on the same inputs, or as many empty operations. */
  readonly empty: number;
}

const CLASSES = 10;

/** One model in one mode over memory of its own, with one random micro-batch of one shape. */
export class StepBench {
  readonly parameters: number;
  private readonly tf: TensorFlow;
  private readonly gradient: ShardGradient;
  private readonly step: () => void;
  private readonly mode: BenchMode;

  private constructor(tf: TensorFlow, gradient: ShardGradient, mode: BenchMode, parameters: number, step: () => void) {
    this.tf = tf;
    this.gradient = gradient;
    this.mode = mode;
    this.parameters = parameters;
    this.step = step;
  }

  static async open(tf: TensorFlow, model: string, mode: BenchMode, samples: number, side: number): Promise<StepBench> {
    const { name, options } = BENCH_MODELS[model]!;
    const built = await buildModel(tf, { name, options, sourceSha256: null }, [side, side, 3], CLASSES, null);
    const tensors = tensorsOf(built);
    const layout = layoutOf(
      tensors.map(({ spec }) => spec),
      4 << 20,
    );
    const pixels = samples * side * side * 3;
    const sizes = [layout.stateFloats, layout.vectorFloats, pixels, samples];
    const starts = sizes.map((_, i) => sizes.slice(0, i).reduce((at, floats) => at + Math.ceil(floats / 16) * 64, 0));
    const [weights, into, images, labels] = starts as [number, number, number, number];
    const pages = Math.ceil((labels + samples * 4) / 65536);
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    initialWeights(tensors, layout, 1, new Float32Array(memory.buffer, weights, layout.stateFloats));
    const draw = new Stream(1, DOMAIN.fingerprint);
    const values = new Float32Array(memory.buffer, images, pixels);
    for (let i = 0; i < pixels; i++) values[i] = draw.normal();
    new Int32Array(memory.buffer, labels, samples).forEach((_, i, all) => {
      all[i] = i % CLASSES;
    });
    const data = { sha256: "", trainImages: samples, classes: CLASSES, channels: 3, height: side, width: side };
    const recipe = { seed: 1, labelSmoothing: 0.1, data, resolutions: [{ fromEpoch: 0, side }], ...mode };
    const shared = sharesMemory(tf, memory, into);
    const gradient = new ShardGradient(tf, built, { layout, memory, weights, recipe, shared });
    let step = 0;
    const parameters = layout.trainable.reduce((sum, { size }) => sum + size, 0);
    return new StepBench(tf, gradient, mode, parameters, () => {
      gradient.run({ images, labels, samples, side, epoch: 0, step: step++, shard: 0 }, into);
    });
  }

  time(): StepTimes {
    const [cpu, wall] = [process.cpuUsage(), performance.now()];
    this.step();
    const used = process.cpuUsage(cpu);
    return { wall: performance.now() - wall, cpu: (used.user + used.system) / 1e3 };
  }

  /** Several passes with a meter between TensorFlow.js and its add-on. */
  dispatch(tries: number): DispatchTimes[] {
    const meter = new BindingMeter(this.tf);
    const graph = new EmptyGraph(this.tf);
    const one = this.mode.execution === "eager" ? emptyOperation(this.tf) : 0;
    const result = Array.from({ length: tries }, (): DispatchTimes => {
      let empty = 0;
      meter.onGraph = (_session, ids, names) => {
        empty = graph.run(ids, names);
      };
      const { calls, operations, javascript } = meter.measure(this.step);
      return { calls, operations, javascript, empty: empty + operations * one };
    });
    graph.dispose();
    return result;
  }

  dispose(): void {
    this.gradient.dispose();
  }
}
