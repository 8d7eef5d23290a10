import { LockstepError } from "../../../shared/errors.ts";

/** What a classifier said about a test set, and what was true. */
export interface Classified {
  readonly samples: number;
  readonly classes: number;
  /** [samples, classes] */
  readonly logits: Float32Array;
  /** [samples], counted from 0. */
  readonly labels: Int32Array;
}

/**
 * Softmax of logits / temperature, [samples, classes] in float64, with the largest logit of a row subtracted first.
 * @throws LockstepError LS_EVALUATION_NOT_FINITE where a logit is NaN or infinite.
 */
export function softmax({ samples, classes, logits }: Omit<Classified, "labels">, temperature = 1): Float64Array {
  const probabilities = new Float64Array(samples * classes);
  for (let i = 0; i < samples; i++) {
    const at = i * classes;
    const highest = largest(logits, at, classes, i);
    let total = 0;
    for (let k = at; k < at + classes; k++) {
      const value = Math.exp((logits[k]! - highest) / temperature);
      probabilities[k] = value;
      total += value;
    }
    for (let k = at; k < at + classes; k++) probabilities[k]! /= total;
  }
  return probabilities;
}

/** -log softmax of the true class, [samples] in nats. Does not underflow where softmax does. */
export function surprisals({ samples, classes, logits, labels }: Classified, temperature = 1): Float64Array {
  const result = new Float64Array(samples);
  for (let i = 0; i < samples; i++) {
    const at = i * classes;
    const highest = largest(logits, at, classes, i);
    let total = 0;
    for (let k = at; k < at + classes; k++) total += Math.exp((logits[k]! - highest) / temperature);
    result[i] = Math.log(total) - (logits[at + labels[i]!]! - highest) / temperature;
  }
  return result;
}

/** The class with the largest logit, [samples]; of equal ones the first. */
export function predictedClasses({ samples, classes, logits }: Classified): Int32Array {
  return Int32Array.from({ length: samples }, (_, i) => {
    const at = i * classes;
    largest(logits, at, classes, i);
    let best = 0;
    for (let k = 1; k < classes; k++) if (logits[at + k]! > logits[at + best]!) best = k;
    return best;
  });
}

/** Probability of the predicted class, [samples]. */
export function confidences(probabilities: Float64Array, classes: number): Float64Array {
  return Float64Array.from({ length: probabilities.length / classes }, (_, i) =>
    probabilities.subarray(i * classes, (i + 1) * classes).reduce((most, value) => Math.max(most, value), 0),
  );
}

function largest(logits: Float32Array, at: number, classes: number, sample: number): number {
  let highest = Number.NEGATIVE_INFINITY;
  for (let k = at; k < at + classes; k++) {
    const value = logits[k]!;
    if (!Number.isFinite(value)) {
      throw new LockstepError("LS_EVALUATION_NOT_FINITE", `The model gives ${value} for test image ${sample}.`, {
        hint: "Its weights have diverged: evaluate an earlier checkpoint, or train with a lower learning rate.",
      });
    }
    if (value > highest) highest = value;
  }
  return highest;
}
