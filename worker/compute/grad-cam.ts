import type { Scalar, Tensor, Tensor3D, Tensor4D } from "@tensorflow/tfjs-core";
import type { LayersModel } from "@tensorflow/tfjs-layers";
import { type Layer, layersOf } from "./model-tensors.ts";
import type { TensorFlow } from "./tensorflow.ts";

/** Layers that only pass on, thin out or enlarge what the layer before them found. */
const PASSIVE = /Pool|Dropout|Padding|Cropping|UpSampling|Reshape|Flatten|InputLayer|Permute/;

/**
 * Gradient-weighted class activation maps (Selvaraju et al. 2017) for models without exact ones: features of the last
 * layer that still has places, weighted by the mean gradient of the class's logit, summed. Negative values are kept; whoever
 * draws a map cuts them off.
 */
export class GradCam {
  private readonly tf: TensorFlow;
  private readonly model: LayersModel;
  private readonly layer: Layer;

  private constructor(tf: TensorFlow, model: LayersModel, layer: Layer) {
    this.tf = tf;
    this.model = model;
    this.layer = layer;
  }

  /** Null for a model in which no layer has places. */
  static of(tf: TensorFlow, model: LayersModel): GradCam | null {
    const layer = layersOf(model).findLast(
      (candidate) => !PASSIVE.test(candidate.getClassName()) && placesOf(candidate) !== null,
    );
    return layer === undefined ? null : new GradCam(tf, model, layer);
  }

  /**
   * @param images float32 [samples, height, width, channels], normalised
   * @param classes the class of each sample that is to be explained
   * @returns [samples, map height, map width]
   */
  maps(images: Tensor4D, classes: Int32Array): Tensor3D {
    const { tf, layer } = this;
    const original = layer.call.bind(layer);
    const hooked = layer as unknown as { call: unknown };
    // The model tidies up what is inside it: the features are kept by hand.
    const kept: Tensor4D[] = [];
    let shift: Tensor4D | null = null;
    hooked.call = (inputs: Tensor | Tensor[], options: object) => {
      const made = original(inputs, options as never);
      const features = (Array.isArray(made) ? made[0] : made) as Tensor4D;
      if (shift !== null) return features.add(shift);
      kept.push(tf.keep(features.clone()));
      return features;
    };
    try {
      return tf.tidy(() => {
        const logits = this.model.apply(images, { training: false }) as Tensor;
        const features = kept[0]!;
        const picked = tf.oneHot(tf.tensor1d(classes, "int32"), logits.shape[1]!).cast("float32");
        const slope = tf.grad((addend: Tensor) => {
          shift = addend as Tensor4D;
          return (this.model.apply(images, { training: false }) as Tensor).mul(picked).sum() as Scalar;
        })(tf.zerosLike(features));
        return features.mul(slope.mean([1, 2], true)).sum(3) as Tensor3D;
      });
    } finally {
      hooked.call = original;
      tf.dispose(kept);
    }
  }
}

/** Rows and columns of a layer's output; null where it has none, or a single place. */
function placesOf(layer: Layer): readonly (number | null)[] | null {
  const shape = layer.outputShape as (number | null)[];
  if (!Array.isArray(shape) || shape.length !== 4) return null;
  const [, height, width] = shape as [unknown, number | null, number | null];
  return height === 1 && width === 1 ? null : [height, width];
}
