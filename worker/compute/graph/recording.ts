import type { Tensor } from "@tensorflow/tfjs-core";
import type { BackwardPass, PassInputs } from "../backward-pass.ts";
import type { TensorFlow } from "../tensorflow.ts";
import { drawMask, type MaskDraw, type MicroBatchKey } from "../training-mode.ts";
import { type GraphNode, Recorder, type Ref } from "./recorder.ts";

/** What a result of the graph is: a gradient or a statistic by its index in the layout, or a sum of the tail. */
export type Target =
  | { readonly kind: "gradient" | "statistic"; readonly index: number }
  | { readonly kind: "loss" | "correct" };

export interface Result {
  readonly ref: Ref;
  readonly target: Target;
}

/** A dropout mask that is fed at every run. */
export interface MaskInput {
  readonly draw: MaskDraw;
  readonly shape: readonly number[];
}

/** The forward and backward pass of one shape of micro-batch. */
export interface Recording {
  readonly nodes: readonly GraphNode[];
  /** What is fed: images, labels, those of partners and shares where images are mixed, trainable tensors, then masks. */
  readonly inputs: readonly Ref[];
  readonly masks: readonly MaskInput[];
  /** In the order in which they came to be: statistics, loss and correct, gradients from the last layer to the first. */
  readonly results: readonly Result[];
}

/**
 * Runs one pass, and notes its operations.
 * @throws LockstepError LS_GRAPH where the model cannot be recorded
 */
export function recordPass(tf: TensorFlow, pass: BackwardPass, inputs: PassInputs, key: MicroBatchKey): Recording {
  const recorder = new Recorder(tf);
  const fed = [recorder.input("images", inputs.images), recorder.input("labels", inputs.labels)];
  if (inputs.mixed !== null) {
    fed.push(recorder.input("other_labels", inputs.mixed.labels), recorder.input("shares", inputs.mixed.shares));
  }
  for (const [i, weight] of inputs.weights.entries()) fed.push(recorder.input(`weight_${i}`, weight));
  const masks: MaskInput[] = [];
  const results: Result[] = [];
  const note = (target: Target, tensor: Tensor) => void results.push({ ref: recorder.output(tensor), target });
  recorder.record(() =>
    pass.run(
      inputs,
      {
        gradient: (index, gradient) => note({ kind: "gradient", index }, gradient),
        statistic: (index, value) => note({ kind: "statistic", index }, value),
        mask: (draw, shape) => {
          const mask = drawMask(tf, key, draw, shape);
          fed.push(recorder.input(`mask_${masks.length}`, mask));
          masks.push({ draw, shape: [...shape] });
          return mask;
        },
      },
      (loss, correct) => {
        note({ kind: "loss" }, loss);
        note({ kind: "correct" }, correct);
      },
    ),
  );
  return { nodes: recorder.nodes, inputs: fed, masks, results };
}
