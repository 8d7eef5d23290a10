/** What a classifier that may abstain achieves (Geifman, El-Yaniv 2017). */
export interface RiskCoverage {
  /** risks[i]: share of errors among the i + 1 most confident samples. */
  readonly risks: Float64Array;
  /** Area under the curve: the mean risk over all coverages. */
  readonly aurc: number;
}

/** Answers the most confident samples first; samples of equal confidence keep their order. */
export function riskCoverage(confidences: Float64Array, right: readonly boolean[]): RiskCoverage {
  const order = [...confidences.keys()].sort((a, b) => confidences[b]! - confidences[a]! || a - b);
  let errors = 0;
  const risks = Float64Array.from(order, (sample, i) => {
    if (!right[sample]) errors += 1;
    return errors / (i + 1);
  });
  return { risks, aurc: risks.reduce((sum, risk) => sum + risk, 0) / Math.max(1, risks.length) };
}

/** The largest share of samples that can be answered with at most `risk` errors among them. */
export function coverageAt({ risks }: RiskCoverage, risk: number): number {
  return risks.length === 0 ? 0 : (risks.findLastIndex((value) => value <= risk) + 1) / risks.length;
}
