import type { Tensor, Tensor4D } from "@tensorflow/tfjs-core";
import type { LayersModel } from "@tensorflow/tfjs-layers";
import { DOMAIN, Stream } from "../../shared/plan/random.ts";
import { type BatchStatistics, fusedBatchNorm } from "./kernels.ts";
import { type Layer, layersOf } from "./model-tensors.ts";
import type { TensorFlow } from "./tensorflow.ts";

/** What the layers need to know about the micro-batch that goes through them. */
export interface MicroBatchKey {
  readonly seed: number;
  readonly step: number;
  readonly shard: number;
}

/** A dropout layer's mask, but for the micro-batch: the layer's index among all layers, and the part that is dropped. */
export interface MaskDraw {
  readonly layer: number;
  readonly rate: number;
}

/** Zeros, and 1 / (1 - rate) for what is kept. */
export function drawMask(
  tf: TensorFlow,
  { seed, step, shard }: MicroBatchKey,
  { layer, rate }: MaskDraw,
  shape: readonly number[],
): Tensor {
  const draw = new Stream(seed, DOMAIN.dropout, step, shard, layer);
  const kept = 1 / (1 - rate);
  const mask = new Float32Array(shape.reduce((product, extent) => product * extent, 1));
  for (let i = 0; i < mask.length; i++) mask[i] = draw.uniform() < rate ? 0 : kept;
  return tf.tensor(mask, [...shape]);
}

/**
 * Gives the layers that behave differently in training their Lockstep form: batch norm runs fused and hands its
 * statistics out instead of moving them at every micro-batch, dropout masks come from the counter generator keyed by
 * (seed, step, shard, layer's index among all layers). The layers stay what they are for everybody else: the exported
 * model is plain TensorFlow.js. Layers that cannot be trained so are refused by checkModel.
 */
export class TrainingMode {
  /** Called for each dropout layer of a training pass: what its input is multiplied by. */
  onMask: (draw: MaskDraw, shape: number[]) => Tensor = () => {
    throw new Error("nobody draws dropout masks");
  };
  /** Called with each batch-norm layer's statistics during a training pass. */
  onStatistics: (layer: string, statistics: BatchStatistics) => void = () => {};

  constructor(tf: TensorFlow, model: LayersModel) {
    layersOf(model).forEach((layer, index) => {
      const className = layer.getClassName();
      if (className === "BatchNormalization") this.fuse(tf, layer);
      else if (className === "Dropout") this.mask(layer, index);
    });
  }

  private fuse(tf: TensorFlow, layer: Layer): void {
    const plain = layer.call.bind(layer);
    const parts = layer as unknown as { gamma: { read(): Tensor } | null; beta: { read(): Tensor } | null };
    const { epsilon } = layer.getConfig() as { epsilon: number };
    layer.call = (inputs, kwargs) => {
      if (kwargs?.training !== true) return plain(inputs, kwargs);
      const x = (Array.isArray(inputs) ? inputs[0] : inputs) as Tensor;
      const channels = x.shape.at(-1)!;
      const scale = parts.gamma?.read() ?? tf.ones([channels]);
      const offset = parts.beta?.read() ?? tf.zeros([channels]);
      const images = (x.rank === 4 ? x : x.reshape([x.shape[0]!, 1, -1, channels])) as Tensor4D;
      const y = fusedBatchNorm(tf, images, scale, offset, epsilon, (statistics) =>
        this.onStatistics(layer.name, statistics),
      );
      return x.rank === 4 ? y : y.reshape(x.shape);
    };
  }

  private mask(layer: Layer, index: number): void {
    const plain = layer.call.bind(layer);
    const { rate } = layer.getConfig() as { rate: number };
    layer.call = (inputs, kwargs) => {
      if (kwargs?.training !== true || rate === 0) return plain(inputs, kwargs);
      const x = (Array.isArray(inputs) ? inputs[0] : inputs) as Tensor;
      return x.mul(this.onMask({ layer: index, rate }, x.shape));
    };
  }
}
