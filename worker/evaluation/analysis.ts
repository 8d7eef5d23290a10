import { type MapKind, mapOf, normaliseMap } from "./maps.ts";
import { type Difference, pairedBootstrap } from "./metrics/bootstrap.ts";
import { type Calibration, calibrationOf } from "./metrics/calibration.ts";
import { type ConfusedPair, type Confusion, confusedPairs, confusionOf } from "./metrics/confusion.ts";
import type { Proportion } from "./metrics/interval.ts";
import { type ClassMetrics, macroOf, perClass } from "./metrics/per-class.ts";
import { type Classified, confidences, predictedClasses, softmax, surprisals } from "./metrics/probabilities.ts";
import { type RiskCoverage, riskCoverage } from "./metrics/risk-coverage.ts";
import { brierScore, negativeLogLikelihood } from "./metrics/scores.ts";
import { fitTemperature } from "./metrics/temperature.ts";
import { topK } from "./metrics/top-k.ts";
import type { Predictions } from "./predictions.ts";

/** All figures that follow from predictions alone. */
export interface Analysis {
  /** [samples, classes] */
  readonly probabilities: Float64Array;
  readonly labels: Int32Array;
  readonly predicted: Int32Array;
  readonly right: readonly boolean[];
  readonly confidences: Float64Array;
  readonly surprisals: Float64Array;
  readonly top1: Proportion;
  readonly topK: Proportion & { readonly k: number };
  readonly confusion: Confusion;
  readonly perClass: readonly ClassMetrics[];
  readonly macro: { readonly precision: number; readonly recall: number; readonly f1: number };
  readonly pairs: readonly ConfusedPair[];
  readonly calibration: Calibration;
  readonly negativeLogLikelihood: number;
  readonly brierScore: number;
  readonly meanConfidence: number;
  readonly riskCoverage: RiskCoverage;
  readonly temperature: Temperature | null;
  /** What averaging over mirror images is worth; null where it is not done. */
  readonly flipAveraging: { readonly plainTop1: Proportion; readonly gain: Difference } | null;
  /** What the maps of the predicted classes say, over the whole test set. */
  readonly mapKinds: Readonly<Record<MapKind, number>> | null;
}

export interface Temperature {
  readonly value: number;
  readonly heldOutImages: number;
  /** On the test set, after scaling. */
  readonly expectedCalibrationError: number;
  readonly negativeLogLikelihood: number;
}

/** Pairs that report.json lists. */
const PAIRS = 20;

/**
 * @param heldOut training images that the model was not trained on, for temperature scaling; without them there is none
 * @throws LockstepError LS_EVALUATION_NOT_FINITE where a logit is NaN or infinite
 */
export function analyse(predictions: Predictions, heldOut: Classified | null = null): Analysis {
  const { classes, labels, samples } = predictions;
  const probabilities = softmax(predictions);
  const predicted = predictedClasses(predictions);
  const right = Array.from(labels, (label, i) => label === predicted[i]);
  const sure = confidences(probabilities, classes);
  const confusion = confusionOf(labels, predicted, classes);
  const metrics = perClass(confusion);
  const k = Math.min(5, classes);
  return {
    probabilities,
    labels,
    predicted,
    right,
    confidences: sure,
    surprisals: surprisals(predictions),
    top1: topK(predictions, 1),
    topK: { ...topK(predictions, k), k },
    confusion,
    perClass: metrics,
    macro: macroOf(metrics),
    pairs: confusedPairs(confusion, PAIRS),
    calibration: calibrationOf(sure, right),
    negativeLogLikelihood: negativeLogLikelihood(predictions),
    brierScore: brierScore(probabilities, labels, classes),
    meanConfidence: sure.reduce((sum, value) => sum + value, 0) / Math.max(1, samples),
    riskCoverage: riskCoverage(sure, right),
    temperature: heldOut === null ? null : scaled(predictions, right, heldOut),
    flipAveraging: flipGain(predictions, right),
    mapKinds: kindsOf(predictions),
  };
}

function scaled(predictions: Predictions, right: readonly boolean[], heldOut: Classified): Temperature {
  const value = fitTemperature(heldOut);
  const sure = confidences(softmax(predictions, value), predictions.classes);
  return {
    value,
    heldOutImages: heldOut.samples,
    expectedCalibrationError: calibrationOf(sure, right).ece,
    negativeLogLikelihood: negativeLogLikelihood(predictions, value),
  };
}

function flipGain(predictions: Predictions, right: readonly boolean[]): Analysis["flipAveraging"] {
  if (predictions.plainLogits === null) return null;
  const plain = { ...predictions, logits: predictions.plainLogits };
  const rightWithout = Array.from(predictedClasses(plain), (label, i) => label === predictions.labels[i]);
  return { plainTop1: topK(plain, 1), gain: pairedBootstrap(right, rightWithout) };
}

function kindsOf({ samples, maps }: Predictions): Record<MapKind, number> | null {
  if (maps === null) return null;
  const kinds: Record<MapKind, number> = { evidence: 0, uniform: 0, none: 0, invalid: 0 };
  for (let i = 0; i < samples; i++) kinds[normaliseMap(mapOf(maps, i, 0)).kind] += 1;
  return kinds;
}
