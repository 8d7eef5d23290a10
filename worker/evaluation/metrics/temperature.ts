import type { Classified } from "./probabilities.ts";
import { negativeLogLikelihood } from "./scores.ts";

/** Bounds of a fitted temperature; a fit that ends there has no minimum inside. */
export const TEMPERATURES = { low: 0.02, high: 50 } as const;
const GOLDEN = (Math.sqrt(5) - 1) / 2;

/**
 * Temperature scaling (Guo et al. 2017): the T that minimises the negative log likelihood of softmax(logits / T). Fit it on
 * held-out samples, never on those that it is judged by. The likelihood is convex in 1/T, so golden section search over
 * log T finds the one minimum.
 */
export function fitTemperature(heldOut: Classified): number {
  const cost = (logT: number) => negativeLogLikelihood(heldOut, Math.exp(logT));
  let low = Math.log(TEMPERATURES.low);
  let high = Math.log(TEMPERATURES.high);
  let left = high - GOLDEN * (high - low);
  let right = low + GOLDEN * (high - low);
  let costLeft = cost(left);
  let costRight = cost(right);
  while (high - low > 1e-6) {
    if (costLeft <= costRight) {
      high = right;
      right = left;
      costRight = costLeft;
      left = high - GOLDEN * (high - low);
      costLeft = cost(left);
    } else {
      low = left;
      left = right;
      costLeft = costRight;
      right = low + GOLDEN * (high - low);
      costRight = cost(right);
    }
  }
  return Math.exp((low + high) / 2);
}
