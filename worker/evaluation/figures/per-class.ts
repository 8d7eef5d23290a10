import type { ClassMetrics } from "../metrics/per-class.ts";
import { COLOUR, draw, type Figure, UNIT } from "./draw.ts";

const percent = (value: number) => `${(100 * value).toFixed(1)} %`;

/** Recall of every class with its interval as a bar, precision as a mark, worst class last. */
export async function perClassFigure(
  metrics: readonly ClassMetrics[],
  names: readonly string[],
  width: number,
): Promise<Figure> {
  const values = metrics.flatMap(({ recall, precision }, label) =>
    recall === null
      ? []
      : [
          {
            name: names[label]!,
            recall: recall.value,
            low: recall.low,
            high: recall.high,
            precision: precision?.value ?? null,
          },
        ],
  );
  const order = [...values].sort((a, b) => b.recall - a.recall).map(({ name }) => name);
  const worst = values.find(({ name }) => name === order.at(-1));
  const best = values.find(({ name }) => name === order[0]);
  const y = { field: "name", type: "nominal", sort: order, title: null } as const;
  // Unstacked bars need no clip paths, whose ids would count up over all drawings of the process.
  const x = {
    type: "quantitative",
    stack: null,
    scale: { domain: UNIT },
    axis: { format: ".0%", tickCount: 5 },
  } as const;
  return draw(
    {
      width,
      height: { step: 26 },
      data: { values },
      encoding: { y: { ...y, axis: { labelColor: COLOUR.ink, labelFontSize: 12, labelLimit: 120, grid: false } } },
      layer: [
        {
          mark: { type: "bar", fill: COLOUR.good, fillOpacity: 0.3, cornerRadiusEnd: 3, height: 15 },
          encoding: { x: { ...x, field: "recall", title: "recall, with its 95 % interval; ◆ precision" } },
        },
        {
          mark: { type: "rule", stroke: COLOUR.good, strokeWidth: 2, strokeCap: "round" },
          encoding: { x: { ...x, field: "low" }, x2: { field: "high" } },
        },
        {
          mark: {
            type: "point",
            shape: "diamond",
            fill: COLOUR.ink,
            stroke: COLOUR.paper,
            strokeWidth: 1.5,
            size: 60,
            opacity: 1,
          },
          encoding: { x: { ...x, field: "precision" } },
        },
      ],
    },
    best === undefined || worst === undefined
      ? "No class has images."
      : `Recall by class, from ${percent(best.recall)} (${best.name}) to ${percent(worst.recall)} (${worst.name}).`,
  );
}
