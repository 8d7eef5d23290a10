/** Predictions whose confidence lies in (low, high]. */
export interface ReliabilityBin {
  readonly low: number;
  readonly high: number;
  readonly count: number;
  /** Mean confidence and share of right predictions; both 0 in an empty bin. */
  readonly confidence: number;
  readonly accuracy: number;
}

export interface Calibration {
  readonly bins: readonly ReliabilityBin[];
  /** Expected calibration error: mean over samples of |accuracy - confidence| of their bin (Guo et al. 2017, eq. 3). */
  readonly ece: number;
  /** The same, of the worst bin (eq. 5). */
  readonly mce: number;
}

/** Compares confidence with accuracy in `count` bins of equal width (15 in Guo et al. 2017). */
export function calibrationOf(confidences: Float64Array, right: readonly boolean[], count = 15): Calibration {
  const sums = Array.from({ length: count }, () => ({ count: 0, confidence: 0, right: 0 }));
  confidences.forEach((confidence, i) => {
    const bin = sums[Math.min(count - 1, Math.max(0, Math.ceil(confidence * count) - 1))]!;
    bin.count += 1;
    bin.confidence += confidence;
    if (right[i]) bin.right += 1;
  });
  const bins = sums.map((bin, i) => ({
    low: i / count,
    high: (i + 1) / count,
    count: bin.count,
    confidence: bin.count === 0 ? 0 : bin.confidence / bin.count,
    accuracy: bin.count === 0 ? 0 : bin.right / bin.count,
  }));
  const total = confidences.length;
  return {
    bins,
    ece: bins.reduce((sum, bin) => sum + (bin.count / Math.max(1, total)) * gapOf(bin), 0),
    mce: bins.reduce((most, bin) => Math.max(most, gapOf(bin)), 0),
  };
}

const gapOf = ({ accuracy, confidence }: ReliabilityBin) => Math.abs(accuracy - confidence);
