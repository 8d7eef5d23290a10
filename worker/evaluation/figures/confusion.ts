import { type Confusion, confusedAt, supportOf } from "../metrics/confusion.ts";
import type { ClassMetrics } from "../metrics/per-class.ts";
import { COLOUR, draw, type Figure, UNIT } from "./draw.ts";

/** More classes than this do not fit a page: the matrix then shows those with the lowest F1. */
const LARGEST = 20;
const CELL = 52;

/** Classes that the matrix shows, in their own order. */
export function shownClasses(metrics: readonly ClassMetrics[]): number[] {
  const all = [...metrics.keys()];
  if (all.length <= LARGEST) return all;
  return all
    .sort((a, b) => metrics[a]!.f1 - metrics[b]!.f1 || a - b)
    .slice(0, LARGEST)
    .sort((a, b) => a - b);
}

/**
 * The confusion matrix as counts. Right ones and errors have a colour of their own, each on its own scale, since the
 * diagonal would drown the errors on a common one.
 */
export async function confusionFigure(
  confusion: Confusion,
  shown: readonly number[],
  names: readonly string[],
): Promise<Figure> {
  const cells = shown.flatMap((actual) =>
    shown.map((predicted) => {
      const count = confusedAt(confusion, actual, predicted);
      const share = count / Math.max(1, supportOf(confusion, actual));
      return { actual: names[actual]!, predicted: names[predicted]!, count, share, right: actual === predicted };
    }),
  );
  const worst = cells.reduce((most, { right, share }) => (right ? most : Math.max(most, share)), 1e-9);
  const values = cells.map((cell) => ({
    ...cell,
    strength: cell.right ? 0.12 + 0.88 * cell.share : Math.sqrt(cell.share / worst) * 0.85,
    label: cell.count === 0 ? "" : cell.count.toLocaleString("en"),
  }));
  const order = shown.map((label) => names[label]!);
  const axis = { domain: false, grid: false, labelFontSize: 13, labelColor: COLOUR.ink, labelLimit: 110 };
  return draw(
    {
      width: CELL * shown.length,
      height: CELL * 0.78 * shown.length,
      data: { values },
      encoding: {
        x: {
          field: "predicted",
          type: "nominal",
          sort: order,
          title: "predicted",
          axis: { ...axis, orient: "top", labelAngle: shown.length > 6 ? -45 : 0 },
        },
        y: { field: "actual", type: "nominal", sort: order, title: "true", axis },
      },
      layer: [
        {
          mark: { type: "rect", cornerRadius: 4, stroke: COLOUR.paper, strokeWidth: 2 },
          encoding: {
            fill: { condition: { test: "datum.right", value: COLOUR.good }, value: COLOUR.bad },
            fillOpacity: {
              field: "strength",
              type: "quantitative",
              scale: { domain: UNIT, range: [0, 1] },
              legend: null,
            },
          },
        },
        {
          mark: { type: "text", fontSize: 13 },
          encoding: {
            text: { field: "label" },
            color: { condition: { test: "datum.strength > 0.62", value: COLOUR.paper }, value: COLOUR.ink },
          },
        },
      ],
    },
    `Confusion matrix of ${shown.length} classes: rows are true classes, columns predicted ones. The counts stand in the table below.`,
  );
}
