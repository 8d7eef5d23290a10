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

/**
 * Gives the layers that behave differently in training their Lockstep form: batch norm runs fused and hands its
 * statistics out instead of moving them at every micro-batch, dropout masks come from the counter generator keyed by
 * (seed, step, shard, layer's index among all layers). The layers stay what they are for everybody else: the exported
 * model is plain TensorFlow.js. Layers that cannot be trained so are refused by checkModel.
 */
export class TrainingMode {
  key: MicroBatchKey = { seed: 0, step: 0, shard: 0 };
  /** Called with each batch-norm layer's statistics during a training pass. */
  onStatistics: (layer: string, statistics: BatchStatistics) => void = () => {};

  constructor(tf: TensorFlow, model: LayersModel) {
    layersOf(model).forEach((layer, index) => {
      const className = layer.getClassName();
      if (className === "BatchNormalization") this.fuse(tf, layer);
      else if (className === "Dropout") this.mask(tf, layer, index);
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

  private mask(tf: TensorFlow, layer: Layer, index: number): void {
    const plain = layer.call.bind(layer);
    const { rate } = layer.getConfig() as { rate: number };
    layer.call = (inputs, kwargs) => {
      if (kwargs?.training !== true || rate === 0) return plain(inputs, kwargs);
      const x = (Array.isArray(inputs) ? inputs[0] : inputs) as Tensor;
      const { seed, step, shard } = this.key;
      const draw = new Stream(seed, DOMAIN.dropout, step, shard, index);
      const kept = 1 / (1 - rate);
      const mask = new Float32Array(x.size);
      for (let i = 0; i < mask.length; i++) mask[i] = draw.uniform() < rate ? 0 : kept;
      return x.mul(tf.tensor(mask, x.shape));
    };
  }
}
