import type { Scalar, Tensor, Tensor1D, Tensor2D, Tensor4D } from "@tensorflow/tfjs-core";
import type { LayersModel } from "@tensorflow/tfjs-layers";
import type { Recipe } from "../../shared/config/schema.ts";
import { LockstepError } from "../../shared/errors.ts";
import { type Layout, TAIL } from "../../shared/model/layout.ts";
import type { BatchStatistics } from "./kernels.ts";
import { type ModelTensor, tensorsOf } from "./model-tensors.ts";
import { bindTensor, type TensorFlow } from "./tensorflow.ts";
import { TrainingMode } from "./training-mode.ts";

/** A micro-batch in shared memory, see LoaderPool. */
export interface GradientInput {
  /** Byte address of float32 [samples, side, side, channels]. */
  readonly images: number;
  /** Byte address of int32 [samples]. */
  readonly labels: number;
  readonly samples: number;
  readonly side: number;
  readonly epoch: number;
  readonly step: number;
  readonly shard: number;
}

export interface GradientOptions {
  readonly layout: Layout;
  readonly memory: WebAssembly.Memory;
  /** Byte address of the flat weight vector. */
  readonly weights: number;
  readonly recipe: Pick<Recipe, "seed" | "labelSmoothing" | "data" | "resolutions" | "precision" | "execution">;
  /** Whether tensors over the memory see later writes (sharesMemory); else weights are uploaded for every micro-batch. */
  readonly shared: boolean;
}

/**
 * The gradient of one micro-batch, run alone through the model: sums over its samples, written into a flat gradient
 * vector at the layout's offsets as soon as each exists, last layers first. Batch statistics and the sums of the tail go
 * into the same vector.
 */
export class ShardGradient {
  private readonly tf: TensorFlow;
  private readonly model: LayersModel;
  private readonly options: GradientOptions;
  private readonly mode: TrainingMode;
  private readonly trainable: readonly ModelTensor[];
  /** Slots of the layout by tensor name. */
  private readonly offsets: ReadonlyMap<string, { readonly offset: number; readonly size: number }>;
  private bound: Tensor[] | null = null;

  /**
   * @throws LockstepError LS_MODEL_SIDE where the model has a fixed size and the recipe shows images at another one,
   * LS_CAPABILITY where the recipe's precision or execution is not supported
   */
  constructor(tf: TensorFlow, model: LayersModel, options: GradientOptions) {
    checkCapability(options.recipe);
    checkSides(model, options.recipe);
    this.tf = tf;
    this.model = model;
    this.options = options;
    this.mode = new TrainingMode(tf, model);
    const tensors = tensorsOf(model);
    this.offsets = new Map(
      [...options.layout.trainable, ...options.layout.statistics].map((slot) => [slot.name, slot]),
    );
    this.trainable = tensors.filter(({ spec }) => spec.role !== "movingMean" && spec.role !== "movingVariance");
  }

  /**
   * Writes the gradient into the vector at byte address `into`, whose padding must be zero.
   * @param onTensor called with a tensor's index in layout.trainable when its gradient has been written
   */
  run(
    input: GradientInput,
    into: number,
    onTensor: (index: number) => void = () => {},
  ): { loss: number; correct: number } {
    const { tf, options } = this;
    const { layout, memory, recipe } = options;
    const vector = new Float32Array(memory.buffer, into, layout.vectorFloats);
    this.mode.key = { seed: recipe.seed, step: input.step, shard: input.shard };
    this.mode.onStatistics = (layer, statistics) => this.writeStatistics(vector, layer, statistics, input.samples);
    const weights = this.bind();
    const missing = new Set(this.trainable.keys());
    const written = (index: number) => {
      missing.delete(index);
      onTensor(index);
    };
    const result = tf.tidy(() => {
      const { channels } = recipe.data;
      const images = bindTensor(tf, memory, input.images, [
        input.samples,
        input.side,
        input.side,
        channels,
      ]) as Tensor4D;
      const labels = tf.tensor1d(new Int32Array(memory.buffer, input.labels, input.samples).slice(), "int32");
      const hooks = this.hook(weights, vector, written);
      try {
        return this.backward(images, labels, weights);
      } finally {
        for (const unhook of hooks) unhook();
      }
    });
    if (!options.shared) this.forget();
    // A weight that the loss does not depend on has the gradient zero.
    for (const index of missing) onTensor(index);
    const tail = vector.subarray(layout.stateFloats);
    tail[TAIL.loss] = result.loss;
    tail[TAIL.correct] = result.correct;
    tail[TAIL.samples] = input.samples;
    return result;
  }

  /** The flat weight vector that gradients are taken at. */
  weights(): Float32Array {
    const { memory, weights, layout } = this.options;
    return new Float32Array(memory.buffer, weights, layout.stateFloats);
  }

  dispose(): void {
    this.forget();
    this.model.dispose();
  }

  private backward(images: Tensor4D, labels: Tensor1D, weights: readonly Tensor[]) {
    const { tf } = this;
    const { labelSmoothing, data } = this.options.recipe;
    let correct: Tensor | null = null;
    const loss = () => {
      const logits = this.model.apply(images, { training: true }) as Tensor2D;
      correct = tf.keep(logits.argMax(1).equal(labels).sum());
      const target = tf
        .oneHot(labels, data.classes)
        .mul(1 - labelSmoothing)
        .add(labelSmoothing / data.classes);
      return target.mul(tf.logSoftmax(logits)).sum().neg() as Scalar;
    };
    try {
      const { value, grads } = tf.engine().gradients(loss as never, weights as never, undefined, true);
      const result = { loss: value.dataSync()[0]!, correct: correct!.dataSync()[0]! };
      tf.dispose([value, ...grads.filter((grad) => grad !== null)]);
      return result;
    } catch (error) {
      dropTape(tf);
      throw error;
    } finally {
      tf.dispose(correct ?? []);
    }
  }

  /** Every read of a weight gives our tensor, once per micro-batch, with a gradient that is written when it exists. */
  private hook(weights: readonly Tensor[], vector: Float32Array, written: (index: number) => void): (() => void)[] {
    const { tf } = this;
    return this.trainable.map(({ variable, spec }, index) => {
      const { offset, size } = this.offsets.get(spec.name)!;
      const write = (dy: Tensor) => {
        if (dy.size !== size) throw new RangeError(`gradient of ${spec.name} has ${dy.size} values`);
        vector.set(dy.dataSync() as Float32Array, offset);
        written(index);
        return dy;
      };
      const observed = tf.customGrad((x) => ({ value: (x as Tensor).clone(), gradFunc: write }));
      let once: Tensor | null = null;
      variable.read = () => {
        once ??= observed(weights[index]!);
        return once;
      };
      // Outside of training the variable reads as TensorFlow.js made it.
      return () => void Reflect.deleteProperty(variable, "read");
    });
  }

  private bind(): readonly Tensor[] {
    const { tf, options } = this;
    this.bound ??= this.trainable.map(({ spec }) => {
      const address = options.weights + this.offsets.get(spec.name)!.offset * 4;
      return tf.keep(bindTensor(tf, options.memory, address, [...spec.shape]));
    });
    return this.bound;
  }

  private forget(): void {
    if (this.bound !== null) this.tf.dispose(this.bound);
    this.bound = null;
  }

  /** samples * mean and samples * unbiased variance, so that sums over shards divide into count-weighted means. */
  private writeStatistics(
    vector: Float32Array,
    layer: string,
    { mean, variance }: BatchStatistics,
    samples: number,
  ): void {
    for (const [name, tensor] of [
      ["moving_mean", mean],
      ["moving_variance", variance],
    ] as const) {
      const { offset, size } = this.offsets.get(`${layer}/${name}`)!;
      const values = tensor.dataSync() as Float32Array;
      for (let i = 0; i < size; i++) vector[offset + i] = values[i]! * samples;
    }
  }
}

/** Another precision or execution has other bits: a worker that cannot follow the run's must not join it. */
function checkCapability({ precision, execution }: Pick<Recipe, "precision" | "execution">): void {
  if (precision === "float32" && execution === "eager") return;
  throw new LockstepError("LS_CAPABILITY", `This worker cannot compute in ${precision}, ${execution}.`, {
    hint: "It supports --precision float32 with --execution eager.",
    exitCode: 3,
  });
}

function checkSides(model: LayersModel, { resolutions, data }: Pick<Recipe, "resolutions" | "data">): void {
  const [, height, width] = model.inputs[0]!.shape;
  const other = resolutions.find(({ side }) => (height ?? side) !== side || (width ?? side) !== side);
  if (other === undefined) return;
  const given = `[${height},${width},${data.channels}]`;
  throw new LockstepError(
    "LS_MODEL_SIDE",
    `The model takes images of ${given}, training shows them at ${other.side}.`,
    {
      hint: "Make the model's input [null, null, channels], or train at one resolution.",
      exitCode: 2,
    },
  );
}

/** TensorFlow.js keeps the tensors saved for a backward pass that throws. */
function dropTape(tf: TensorFlow): void {
  const { state } = tf.engine() as unknown as { state: { activeTape: { saved?: Tensor[] }[] | null } };
  for (const { saved } of state.activeTape ?? []) tf.dispose(saved ?? []);
  state.activeTape = null;
}
