import type { Tensor, Tensor1D, Tensor4D } from "@tensorflow/tfjs-core";
import type { LayersModel } from "@tensorflow/tfjs-layers";
import type { Recipe } from "../../shared/config/schema.ts";
import { LockstepError } from "../../shared/errors.ts";
import type { Layout } from "../../shared/model/layout.ts";
import { BackwardPass, type PassInputs } from "./backward-pass.ts";
import { EagerGradient } from "./eager-gradient.ts";
import { GradientVector } from "./gradient-vector.ts";
import { GraphGradient } from "./graph/graph-gradient.ts";
import { bindTensor, type TensorFlow } from "./tensorflow.ts";
import type { MicroBatchKey } from "./training-mode.ts";

/** A micro-batch in shared memory, see LoaderPool. */
export interface GradientInput {
  /** Byte address of float32 [samples, side, side, channels]. */
  readonly images: number;
  /** Byte address of int32 [samples]. */
  readonly labels: number;
  /** Of a recipe that mixes images: byte addresses of int32 [samples] other labels and float32 [samples] own shares. */
  readonly mixed?: { readonly labels: number; readonly shares: number } | null;
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

/** One way to take the gradient of a micro-batch whose tensors are bound: operation by operation, or as one graph. */
export interface Execution {
  run(inputs: PassInputs, key: MicroBatchKey, into: GradientVector): { loss: number; correct: number };
  dispose(): void;
}

/**
 * The gradient of one micro-batch, run alone through the model: sums over its samples, written into a flat gradient
 * vector at the layout's offsets, last layers first. Batch statistics and the sums of the tail go into the same vector.
 */
export class ShardGradient {
  private readonly tf: TensorFlow;
  private readonly options: GradientOptions;
  private readonly pass: BackwardPass;
  private readonly execution: Execution;
  private bound: Tensor[] | null = null;

  /**
   * @throws LockstepError LS_MODEL_SIDE where the model has a fixed size and the recipe shows images at another one,
   * LS_CAPABILITY where the recipe's precision or execution is not supported
   */
  constructor(tf: TensorFlow, model: LayersModel, options: GradientOptions) {
    const { recipe } = options;
    checkSides(model, recipe);
    this.tf = tf;
    this.options = options;
    this.pass = new BackwardPass(tf, model, { classes: recipe.data.classes, labelSmoothing: recipe.labelSmoothing });
    this.execution = executionOf(tf, this.pass, options);
  }

  /**
   * Writes the gradient into the vector at byte address `into`, which must be zero wherever no trainable tensor lies.
   * @param onTensor called with a tensor's index in layout.trainable when its gradient has been written
   */
  run(
    input: GradientInput,
    into: number,
    onTensor: (index: number) => void = () => {},
  ): { loss: number; correct: number } {
    const { tf, options } = this;
    const { layout, memory, recipe } = options;
    const { samples, side, step, shard } = input;
    const vector = new GradientVector(layout, memory, into, samples, onTensor);
    const weights = this.bind();
    const result = tf.tidy(() => {
      const images = bindTensor(tf, memory, input.images, [samples, side, side, recipe.data.channels]) as Tensor4D;
      const labelsAt = (address: number) =>
        tf.tensor1d(new Int32Array(memory.buffer, address, samples).slice(), "int32") as Tensor1D;
      const labels = labelsAt(input.labels);
      const mixed = input.mixed == null ? null : this.mixedOf(input.mixed, samples, labelsAt);
      const key = { seed: recipe.seed, step, shard };
      return this.execution.run({ images, labels, mixed, weights }, key, vector) as never;
    }) as { loss: number; correct: number };
    if (!options.shared) this.forget();
    vector.finish(result.loss, result.correct);
    return result;
  }

  private mixedOf(
    { labels, shares }: NonNullable<GradientInput["mixed"]>,
    samples: number,
    labelsAt: (address: number) => Tensor1D,
  ): PassInputs["mixed"] {
    const own = new Float32Array(this.options.memory.buffer, shares, samples).slice();
    return { labels: labelsAt(labels), shares: this.tf.tensor2d(own, [samples, 1]) };
  }

  /** The flat weight vector that gradients are taken at. */
  weights(): Float32Array {
    const { memory, weights, layout } = this.options;
    return new Float32Array(memory.buffer, weights, layout.stateFloats);
  }

  dispose(): void {
    this.forget();
    this.execution.dispose();
    this.pass.dispose();
  }

  private bind(): readonly Tensor[] {
    const { tf, options } = this;
    this.bound ??= options.layout.trainable.map(({ offset, shape }) =>
      tf.keep(bindTensor(tf, options.memory, options.weights + offset * 4, [...shape])),
    );
    return this.bound;
  }

  private forget(): void {
    if (this.bound !== null) this.tf.dispose(this.bound);
    this.bound = null;
  }
}

/** Another precision or execution has other bits: a worker that cannot follow the run's must not join it. */
function executionOf(
  tf: TensorFlow,
  pass: BackwardPass,
  { recipe: { precision, execution }, layout, memory, shared }: GradientOptions,
): Execution {
  if (execution === "graph") return new GraphGradient(tf, pass, { layout, memory, precision, shared });
  if (precision === "float32") return new EagerGradient(tf, pass);
  throw new LockstepError("LS_CAPABILITY", `This worker cannot compute in ${precision}, ${execution}.`, {
    hint: "bfloat16 needs --execution graph.",
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
