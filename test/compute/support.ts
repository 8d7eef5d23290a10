import type { LayersModel } from "@tensorflow/tfjs-layers";
import { type Layout, layoutOf } from "../../shared/model/layout.ts";
import { useNativeGradients } from "../../worker/compute/kernels.ts";
import { tensorsOf } from "../../worker/compute/model-tensors.ts";
import { ShardGradient } from "../../worker/compute/shard-gradient.ts";
import { computeEnvironment, loadTensorFlow, sharesMemory, type TensorFlow } from "../../worker/compute/tensorflow.ts";

let loaded: TensorFlow | null = null;

/** TensorFlow on one thread of the CPU, loaded once in this process. */
export function tensorflow(): TensorFlow {
  if (loaded === null) {
    Object.assign(process.env, computeEnvironment({ device: "cpu", threads: 1 }));
    loaded = loadTensorFlow();
    useNativeGradients(loaded);
  }
  return loaded;
}

export interface BenchOptions {
  readonly seed?: number;
  readonly classes?: number;
  readonly samples?: number;
  readonly side?: number;
  readonly labelSmoothing?: number;
  readonly step?: number;
  readonly shard?: number;
  readonly precision?: "float32" | "bf16";
  readonly execution?: "eager" | "graph";
  /** false: weights are uploaded for each micro-batch, as on a GPU. */
  readonly shared?: boolean;
}

/** A model over a shared memory of its own, with room for one micro-batch and one gradient. */
export class Bench {
  readonly layout: Layout;
  readonly memory: WebAssembly.Memory;
  readonly gradient: ShardGradient;
  readonly weights: Float32Array;
  readonly vector: Float32Array;
  readonly images: Float32Array;
  readonly labels: Int32Array;
  readonly options: Required<BenchOptions>;

  constructor(tf: TensorFlow, model: LayersModel, options: BenchOptions = {}) {
    const defaults = {
      seed: 3,
      classes: 4,
      samples: 6,
      side: 16,
      labelSmoothing: 0.1,
      step: 11,
      shard: 2,
      shared: true,
      precision: "float32" as const,
      execution: "eager" as const,
    };
    this.options = { ...defaults, ...options };
    const { samples, side, classes, labelSmoothing, seed } = this.options;
    this.layout = layoutOf(
      tensorsOf(model).map(({ spec }) => spec),
      4096,
    );
    const { stateFloats, vectorFloats } = this.layout;
    const pixels = samples * side * side * 3;
    const floats = [stateFloats, vectorFloats, Math.ceil(pixels / 1024) * 1024, 1024];
    const pages = Math.ceil((floats.reduce((sum, n) => sum + n, 0) * 4) / 65536);
    this.memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    let next = 0;
    const [weights, vector, images, labels] = floats.map((n) => {
      const at = next;
      next += n * 4;
      return at;
    }) as [number, number, number, number];
    this.weights = new Float32Array(this.memory.buffer, weights, stateFloats);
    this.vector = new Float32Array(this.memory.buffer, vector, vectorFloats);
    this.images = new Float32Array(this.memory.buffer, images, pixels);
    this.labels = new Int32Array(this.memory.buffer, labels, samples);
    const data = { sha256: "", trainImages: 100, channels: 3, height: side, width: side, classes };
    const { precision, execution } = this.options;
    const resolutions = [{ fromEpoch: 0, side }];
    const recipe = { seed, labelSmoothing, data, resolutions, precision, execution };
    const shared = this.options.shared && sharesMemory(tf, this.memory, vector);
    this.gradient = new ShardGradient(tf, model, { layout: this.layout, memory: this.memory, weights, recipe, shared });
    this.labels.forEach((_, i) => {
      this.labels[i] = (i * 7 + 1) % classes;
    });
    fillNormal(this.images, 17);
  }

  /** Clears the vector and computes the micro-batch's gradient into it. */
  run(onTensor?: (index: number) => void, changes: { step?: number; shard?: number; samples?: number } = {}) {
    const { samples, side, step, shard } = { ...this.options, ...changes };
    const at = { images: this.images.byteOffset, labels: this.labels.byteOffset };
    this.vector.fill(0);
    return this.gradient.run({ ...at, samples, side, epoch: 0, step, shard }, this.vector.byteOffset, onTensor);
  }

  /** The named tensors of a flat vector. */
  tensors(vector: Float32Array) {
    return [...this.layout.trainable, ...this.layout.statistics].flatMap(({ name, shape, role, offset, size }) =>
      offset + size <= vector.length ? [{ name, shape, role, data: vector.slice(offset, offset + size) }] : [],
    );
  }
}

/** Numbers in about -2..2 from a small generator of the tests' own (mulberry32), summed to look normal. */
export function fillNormal(values: Float32Array, seed: number, scale = 1, centre = 0): void {
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  values.forEach((_, i) => {
    values[i] = centre + scale * (uniform() + uniform() + uniform() - 1.5) * 2;
  });
}

/** Weights as after some training: nothing is zero, no scale is one. */
export function fillWeights(bench: Pick<Bench, "layout" | "weights">): void {
  for (const [i, slot] of [...bench.layout.trainable, ...bench.layout.statistics].entries()) {
    const values = bench.weights.subarray(slot.offset, slot.offset + slot.size);
    const fanIn = slot.shape.slice(0, -1).reduce((product, extent) => product * extent, 1);
    if (slot.role === "kernel") fillNormal(values, 100 + i, Math.sqrt(2 / fanIn));
    else if (slot.role === "gamma") fillNormal(values, 100 + i, 0.3, 1);
    else if (slot.role === "movingVariance") fillNormal(values, 100 + i, 0.1, 1);
    else fillNormal(values, 100 + i, 0.2);
  }
}
