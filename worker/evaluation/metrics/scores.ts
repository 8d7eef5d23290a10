import { type Classified, surprisals } from "./probabilities.ts";

const mean = (values: Float64Array) => values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length);

/** Negative log likelihood: mean of -log p(true class), in nats. */
export const negativeLogLikelihood = (classified: Classified, temperature = 1): number =>
  mean(surprisals(classified, temperature));

/** Brier's score (1950): mean over samples of the squared distance between probabilities and truth, in 0..2. */
export function brierScore(probabilities: Float64Array, labels: Int32Array, classes: number): number {
  const distances = Float64Array.from(labels, (label, i) => {
    let sum = 0;
    for (let k = 0; k < classes; k++) sum += (probabilities[i * classes + k]! - (k === label ? 1 : 0)) ** 2;
    return sum;
  });
  return mean(distances);
}
