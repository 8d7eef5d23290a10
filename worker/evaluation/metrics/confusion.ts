/** Counts by true class (row) and predicted class (column), [classes, classes]. */
export interface Confusion {
  readonly classes: number;
  readonly counts: Uint32Array;
}

/** Tells how often each true class was taken for each class. */
export function confusionOf(labels: Int32Array, predicted: Int32Array, classes: number): Confusion {
  const counts = new Uint32Array(classes * classes);
  labels.forEach((label, i) => {
    counts[label * classes + predicted[i]!]! += 1;
  });
  return { classes, counts };
}

/** Count of samples of class `actual` that were taken for `predicted`. */
export const confusedAt = ({ classes, counts }: Confusion, actual: number, predicted: number): number =>
  counts[actual * classes + predicted]!;

export interface ConfusedPair {
  readonly actual: number;
  readonly predicted: number;
  readonly count: number;
  /** Of the samples of the true class. */
  readonly share: number;
}

/** The most frequent errors, most frequent first, at most `limit`. Equal counts stay in the order of the classes. */
export function confusedPairs(confusion: Confusion, limit: number): ConfusedPair[] {
  const { classes } = confusion;
  const pairs: ConfusedPair[] = [];
  for (let actual = 0; actual < classes; actual++) {
    const support = supportOf(confusion, actual);
    for (let predicted = 0; predicted < classes; predicted++) {
      const count = confusedAt(confusion, actual, predicted);
      if (actual !== predicted && count > 0) pairs.push({ actual, predicted, count, share: count / support });
    }
  }
  return pairs.sort((a, b) => b.count - a.count).slice(0, limit);
}

/** Samples of a true class. */
export function supportOf({ classes, counts }: Confusion, actual: number): number {
  return counts.subarray(actual * classes, (actual + 1) * classes).reduce((sum, count) => sum + count, 0);
}
