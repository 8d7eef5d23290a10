import { DOMAIN, Stream } from "../../shared/plan/random.ts";
import type { ConfusedPair } from "./metrics/confusion.ts";

/** What is known about every test image when examples are chosen. */
export interface Judged {
  readonly labels: Int32Array;
  readonly predicted: Int32Array;
  /** Probability of the predicted class. */
  readonly confidences: Float64Array;
  /** -log probability of the true class. */
  readonly surprisals: Float64Array;
}

/** Test images of one class, by id. None is in two lists. */
export interface ClassExamples {
  readonly label: number;
  /** Right and surest first. */
  readonly best: readonly number[];
  /** Least probability of the true class first; right ones only where there are too few errors. */
  readonly worst: readonly number[];
  /** Drawn without a look at the prediction. */
  readonly random: readonly number[];
}

/** Chooses examples of a class. The same seed chooses the same images. */
export function examplesOf(judged: Judged, label: number, count: number, seed: number): ClassExamples {
  const { labels, predicted, confidences, surprisals } = judged;
  const members = [...labels.keys()].filter((i) => labels[i] === label);
  const taken = new Set<number>();
  const take = (candidates: readonly number[]) => {
    const chosen = candidates.filter((i) => !taken.has(i)).slice(0, count);
    for (const i of chosen) taken.add(i);
    return chosen;
  };
  const random = take(shuffled(members, new Stream(seed, DOMAIN.evaluation, 1, label), count));
  const sure = members.filter((i) => predicted[i] === label).sort((a, b) => confidences[b]! - confidences[a]! || a - b);
  const best = take(sure);
  const worst = take(members.sort((a, b) => surprisals[b]! - surprisals[a]! || a - b));
  return { label, best, worst, random };
}

/** The errors that the model was surest of, surest first. */
export function surestErrors({ labels, predicted, confidences }: Judged, count: number): number[] {
  return [...labels.keys()]
    .filter((i) => labels[i] !== predicted[i])
    .sort((a, b) => confidences[b]! - confidences[a]! || a - b)
    .slice(0, count);
}

/** Images of a confused pair, surest error first. */
export function pairExamples(judged: Judged, { actual, predicted }: ConfusedPair, count: number): number[] {
  return [...judged.labels.keys()]
    .filter((i) => judged.labels[i] === actual && judged.predicted[i] === predicted)
    .sort((a, b) => judged.confidences[b]! - judged.confidences[a]! || a - b)
    .slice(0, count);
}

/** The first `count` of a random order (Fisher, Yates). */
function shuffled(items: readonly number[], stream: Stream, count: number): number[] {
  const order = [...items];
  const wanted = Math.min(count, order.length);
  for (let i = 0; i < wanted; i++) {
    const j = i + stream.integer(order.length - i);
    [order[i], order[j]] = [order[j]!, order[i]!];
  }
  return order.slice(0, wanted);
}
