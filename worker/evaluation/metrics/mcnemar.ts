export interface McNemar {
  /** Samples that only the first, or only the second model gets right. */
  readonly onlyFirst: number;
  readonly onlySecond: number;
  /** Exact two-sided p-value of the hypothesis that both are equally accurate. */
  readonly pValue: number;
}

/**
 * McNemar's test (1947) on the samples where two models disagree, in its exact form: under the hypothesis each of them falls
 * to either model with probability one half.
 */
export function mcnemar(first: readonly boolean[], second: readonly boolean[]): McNemar {
  if (first.length !== second.length) throw new RangeError("both models must have seen the same samples");
  let onlyFirst = 0;
  let onlySecond = 0;
  first.forEach((right, i) => {
    if (right && !second[i]) onlyFirst += 1;
    if (!right && second[i]) onlySecond += 1;
  });
  const disagreeing = onlyFirst + onlySecond;
  const tail = binomialTail(disagreeing, Math.min(onlyFirst, onlySecond));
  return { onlyFirst, onlySecond, pValue: Math.min(1, 2 * tail) };
}

/** P(X <= k) of X ~ Binomial(n, 1/2), summed in logarithms so that large n does not underflow. */
function binomialTail(n: number, k: number): number {
  let logTerm = -n * Math.LN2;
  let sum = Math.exp(logTerm);
  for (let i = 1; i <= k; i++) {
    logTerm += Math.log((n - i + 1) / i);
    sum += Math.exp(logTerm);
  }
  return sum;
}
