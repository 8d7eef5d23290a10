import { type Confusion, confusedAt, supportOf } from "./confusion.ts";
import { type Proportion, wilson } from "./interval.ts";

export interface ClassMetrics {
  /** Of what was called this class, the share that is; null where nothing was called so. */
  readonly precision: Proportion | null;
  /** Of what is this class, the share that was called so; null where the test set has none. */
  readonly recall: Proportion | null;
  /** Harmonic mean of both, 2 TP / (2 TP + FP + FN); 0 without a right prediction. */
  readonly f1: number;
  /** Samples of the class. */
  readonly support: number;
}

/** Precision, recall and F1 of every class. */
export function perClass(confusion: Confusion): ClassMetrics[] {
  return Array.from({ length: confusion.classes }, (_, label) => {
    const right = confusedAt(confusion, label, label);
    const support = supportOf(confusion, label);
    let called = 0;
    for (let actual = 0; actual < confusion.classes; actual++) called += confusedAt(confusion, actual, label);
    return {
      precision: called === 0 ? null : wilson(right, called),
      recall: support === 0 ? null : wilson(right, support),
      f1: right === 0 ? 0 : (2 * right) / (called + support),
      support,
    };
  });
}

/** Unweighted means over the classes that the test set has; an undefined precision counts as 0, as in scikit-learn. */
export function macroOf(classes: readonly ClassMetrics[]): { precision: number; recall: number; f1: number } {
  const present = classes.filter(({ support }) => support > 0);
  const mean = (of: (metrics: ClassMetrics) => number) =>
    present.length === 0 ? 0 : present.reduce((sum, metrics) => sum + of(metrics), 0) / present.length;
  return {
    precision: mean(({ precision }) => precision?.value ?? 0),
    recall: mean(({ recall }) => recall?.value ?? 0),
    f1: mean(({ f1 }) => f1),
  };
}
