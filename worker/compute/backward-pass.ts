import type { Scalar, Tensor, Tensor1D, Tensor2D, Tensor4D } from "@tensorflow/tfjs-core";
import type { LayersModel } from "@tensorflow/tfjs-layers";
import { isStatistic } from "../../shared/model/layout.ts";
import { type ModelTensor, tensorsOf } from "./model-tensors.ts";
import type { TensorFlow } from "./tensorflow.ts";
import { type MaskDraw, TrainingMode } from "./training-mode.ts";

/** What a pass hands out as it goes; tensors live until the call returns, unless kept. */
export interface PassObserver {
  /** The gradient of trainable tensor `index`, summed over the samples: last layers first, each at most once. */
  gradient(index: number, gradient: Tensor): void;
  /** Moving statistic `index`, in model order, of this micro-batch alone: a mean or an unbiased variance. */
  statistic(index: number, value: Tensor): void;
  /** What a dropout layer multiplies its input with. */
  mask(draw: MaskDraw, shape: number[]): Tensor;
}

export interface PassInputs {
  /** float32 [samples, side, side, channels] */
  readonly images: Tensor4D;
  /** int32 [samples] */
  readonly labels: Tensor1D;
  /** Labels that count as well, int32 [samples], and shares of the labels above, float32 [samples, 1]; null: none. */
  readonly mixed: { readonly labels: Tensor1D; readonly shares: Tensor2D } | null;
  /** One for each trainable tensor, in model order. */
  readonly weights: readonly Tensor[];
}

/** Forward and backward through the model, one TensorFlow.js operation after the other. */
export class BackwardPass {
  readonly trainable: readonly ModelTensor[];
  private readonly tf: TensorFlow;
  private readonly model: LayersModel;
  private readonly mode: TrainingMode;
  /** Names of the moving statistics. */
  private readonly statistics: readonly string[];
  private readonly loss: { readonly classes: number; readonly labelSmoothing: number };

  constructor(tf: TensorFlow, model: LayersModel, loss: { readonly classes: number; readonly labelSmoothing: number }) {
    this.tf = tf;
    this.model = model;
    this.loss = loss;
    this.mode = new TrainingMode(tf, model);
    const tensors = tensorsOf(model);
    this.trainable = tensors.filter(({ spec }) => !isStatistic(spec));
    this.statistics = tensors.filter(({ spec }) => isStatistic(spec)).map(({ spec }) => spec.name);
  }

  /** @param read what is wanted of the summed loss (float32 []) and the number of right answers (int32 []) */
  run<Result>(
    { images, labels, mixed, weights }: PassInputs,
    observer: PassObserver,
    read: (loss: Tensor, correct: Tensor) => Result,
  ): Result {
    const { tf } = this;
    this.mode.onStatistics = (layer, { mean, variance }) => {
      observer.statistic(this.statistics.indexOf(`${layer}/moving_mean`), mean);
      observer.statistic(this.statistics.indexOf(`${layer}/moving_variance`), variance);
    };
    this.mode.onMask = (draw, shape) => observer.mask(draw, shape);
    return tf.tidy(() => {
      const unhook = this.hook(weights, observer);
      let correct: Tensor | null = null;
      try {
        const forward = () => {
          const logits = this.model.apply(images, { training: true }) as Tensor2D;
          correct = tf.keep(logits.argMax(1).equal(labels).sum());
          return this.crossEntropy(logits, labels, mixed);
        };
        const { value, grads } = tf.engine().gradients(forward as never, weights as never, undefined, true);
        const result = read(value, correct!);
        tf.dispose([value, ...grads.filter((grad) => grad !== null)]);
        return result as never;
      } catch (error) {
        dropTape(tf);
        throw error;
      } finally {
        tf.dispose(correct ?? []);
        unhook();
      }
    }) as Result;
  }

  dispose(): void {
    this.model.dispose();
  }

  private crossEntropy(logits: Tensor2D, labels: Tensor1D, mixed: PassInputs["mixed"]): Scalar {
    const { tf } = this;
    const { classes, labelSmoothing } = this.loss;
    const target = this.classesOf(labels, mixed)
      .mul(1 - labelSmoothing)
      .add(labelSmoothing / classes);
    return target.mul(tf.logSoftmax(logits)).sum().neg() as Scalar;
  }

  /** How much each class counts for each sample, [samples, classes]. */
  private classesOf(labels: Tensor1D, mixed: PassInputs["mixed"]): Tensor {
    const { tf } = this;
    const { classes } = this.loss;
    const own = tf.oneHot(labels, classes);
    if (mixed === null) return own;
    const rest = tf.scalar(1).sub(mixed.shares);
    return own.mul(mixed.shares).add(tf.oneHot(mixed.labels, classes).mul(rest));
  }

  /** Every read of a weight gives our tensor, once per pass, and its gradient is handed out as soon as it exists. */
  private hook(weights: readonly Tensor[], observer: PassObserver): () => void {
    const { tf } = this;
    this.trainable.forEach(({ variable }, index) => {
      const gradFunc = (dy: Tensor) => {
        observer.gradient(index, dy);
        return dy;
      };
      const observed = tf.customGrad((x) => ({ value: (x as Tensor).clone(), gradFunc }));
      let once: Tensor | null = null;
      variable.read = () => {
        once ??= observed(weights[index]!);
        return once;
      };
    });
    // Outside of training the variables read as TensorFlow.js made them.
    return () => {
      for (const { variable } of this.trainable) Reflect.deleteProperty(variable, "read");
    };
  }
}

/** TensorFlow.js keeps the tensors saved for a backward pass that throws. */
function dropTape(tf: TensorFlow): void {
  const { state } = tf.engine() as unknown as { state: { activeTape: { saved?: Tensor[] }[] | null } };
  for (const { saved } of state.activeTape ?? []) tf.dispose(saved ?? []);
  state.activeTape = null;
}
