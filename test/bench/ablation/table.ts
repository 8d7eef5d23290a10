import { pairedBootstrap } from "../../../worker/evaluation/metrics/bootstrap.ts";
import { wilson } from "../../../worker/evaluation/metrics/interval.ts";
import { predictedClasses } from "../../../worker/evaluation/metrics/probabilities.ts";
import type { Predictions } from "../../../worker/evaluation/predictions.ts";

/** What one variant's runs said about the images that were held out, one for each seed. */
export interface Ablated {
  readonly name: string;
  readonly predictions: readonly Predictions[];
  /** Of training, in all. */
  readonly seconds: number;
}

/** A Markdown table; differences are to the first variant, seed by seed on the same images, with their 95 % intervals. */
export function ablationTable(results: readonly Ablated[]): string {
  const base = results[0];
  const points = (share: number, digits = 1) => (100 * share).toFixed(digits);
  const signed = (share: number) => `${share > 0 ? "+" : ""}${points(share)}`;
  const rows = results.map(({ name, predictions, seconds }, i) => {
    const right = predictions.flatMap(rightOf);
    const { value, low, high } = wilson(right.filter(Boolean).length, right.length);
    const cells = [name, `${points(value)} (${points(low)} to ${points(high)})`];
    if (i === 0 || base === undefined) cells.push("");
    else {
      const difference = pairedBootstrap(right, base.predictions.slice(0, predictions.length).flatMap(rightOf));
      cells.push(`${signed(difference.value)} (${signed(difference.low)} to ${signed(difference.high)})`);
    }
    return `| ${[...cells, seconds.toFixed(0)].join(" | ")} |`;
  });
  return [
    "| variant | held out, top-1 % (95 %) | difference, points | training, s |",
    "|---|---|---|---:|",
    ...rows,
  ].join("\n");
}

function rightOf(predictions: Predictions): boolean[] {
  const predicted = predictedClasses(predictions);
  return Array.from(predictions.labels, (label, i) => label === predicted[i]);
}
