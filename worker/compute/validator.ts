import type { LayersModel } from "@tensorflow/tfjs-layers";
import type { Dataset } from "../../shared/data/dataset.ts";
import type { Layout } from "../../shared/model/layout.ts";
import type { HeldOutCounts } from "../../shared/protocol/messages.ts";
import { surprisals } from "../evaluation/metrics/probabilities.ts";
import { batchImages, type EvaluationConfig, largestOfRows } from "./evaluate.ts";
import { Predictor } from "./predictor.ts";
import type { TensorFlow } from "./tensorflow.ts";

/** Predicts held-out images with weights of a former step while training goes on with newer ones. */
export class Validator {
  readonly #tf: TensorFlow;
  readonly #model: LayersModel;
  readonly #layout: Layout;
  readonly #dataset: Dataset;
  readonly #config: EvaluationConfig;
  readonly #size: number;
  #held: { readonly step: number; readonly weights: Float32Array } | null = null;
  #predictor: Predictor | null = null;

  /** @param size images in a batch */
  constructor(
    tf: TensorFlow,
    model: LayersModel,
    layout: Layout,
    dataset: Dataset,
    config: EvaluationConfig,
    size: number,
  ) {
    this.#tf = tf;
    this.#model = model;
    this.#layout = layout;
    this.#dataset = dataset;
    this.#config = config;
    this.#size = size;
  }

  /** Keeps a copy of these weights, which are those of `step`, in place of others. */
  hold(step: number, weights: Float32Array): void {
    this.#held = { step, weights: weights.slice() };
    this.#predictor = null;
  }

  /** Somebody else has put weights into the model. */
  displaced(): void {
    this.#predictor = null;
  }

  /** Null where the weights of that step are not kept any more: whoever asked has it from somebody else. */
  run(step: number, batch: number): HeldOutCounts | null {
    const held = this.#held;
    if (held?.step !== step) return null;
    // Training reads the weights in shared memory, never the model's own variables.
    this.#predictor ??= new Predictor(this.#tf, this.#model, this.#layout, held.weights);
    const { recipe } = this.#config;
    const { from, samples, images, shape } = batchImages(this.#dataset, recipe, batch, this.#size);
    const { classes } = recipe.data;
    const logits = this.#predictor.logits(images, shape, recipe.flipAveraging).subarray(0, samples * classes);
    const labels = Int32Array.from({ length: samples }, (_, i) => this.#dataset.test.labels[from + i]!);
    const correct = largestOfRows(logits, classes).reduce((sum, k, i) => sum + (k === labels[i] ? 1 : 0), 0);
    const finite = logits.every(Number.isFinite);
    const loss = finite
      ? surprisals({ samples, classes, logits, labels }).reduce((sum, value) => sum + value, 0)
      : Number.NaN;
    return { samples, correct, loss };
  }
}
