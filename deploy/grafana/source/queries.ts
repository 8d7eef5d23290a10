/** PromQL of the dashboards. */

/** Series of the chosen run. */
export const series = (metric: string, more = "") =>
  `${metric}{run=~"$run", job="lockstep"${more === "" ? "" : `, ${more}`}}`;
/** Its growth per second. */
export const perSecond = (metric: string, more = "") => `rate(${series(metric, more)}[$__rate_interval])`;
/** What a recording rule made of them; it has no job. */
export const rule = (name: string) => `${name}{run=~"$run"}`;

/** 95th percentile of a histogram, one line for each value of `by`. */
export const quantile = (metric: string, by: string) =>
  `histogram_quantile(0.95, sum by (run, le, ${by}) (${perSecond(`${metric}_bucket`)}))`;
