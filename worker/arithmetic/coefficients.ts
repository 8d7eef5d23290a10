/**
 * Scalars of the update that depend on the step. They use nothing but IEEE operations in float64: Math.pow may differ
 * between engines, and its bits would reach the weights.
 */

/** 1 - beta^t of AdamW for the t-th update, counted from 1; the power by repeated squaring. */
export function biasCorrection(beta: number, t: number): number {
  let power = 1;
  for (let exponent = t, square = beta; exponent > 0; exponent = Math.floor(exponent / 2), square *= square) {
    if (exponent % 2 === 1) power *= square;
  }
  return 1 - power;
}

/** Decay of the weights' moving average after the t-th update, counted from 1: young averages forget faster. */
export const emaDecay = (decay: number, t: number): number => Math.min(decay, t / (t + 20));
