import type { Calibration } from "../metrics/calibration.ts";
import type { RiskCoverage } from "../metrics/risk-coverage.ts";
import { COLOUR, draw, type Figure, UNIT } from "./draw.ts";

const percent = (value: number) => `${(100 * value).toFixed(1)} %`;
const shares = { format: ".0%", tickCount: 5 } as const;

/** The reliability diagram: accuracy of each bin against its confidence, with how many images each bin holds below. */
export async function reliabilityFigure({ bins, ece }: Calibration, width: number): Promise<Figure> {
  const total = bins.reduce((sum, { count }) => sum + count, 0);
  const values = bins
    .filter(({ count }) => count > 0)
    .map((bin) => ({ ...bin, share: bin.count / total, zero: 0, over: bin.confidence > bin.accuracy }));
  const x = (field: string, title: string | null) =>
    ({ field, type: "quantitative", scale: { domain: UNIT }, title, axis: { ...shares, grid: false } }) as const;
  return draw(
    {
      spacing: 14,
      vconcat: [
        {
          width,
          height: width * 0.8,
          layer: [
            {
              data: { values: [{ at: 0 }, { at: 1 }] },
              mark: { type: "line", stroke: COLOUR.faint, strokeDash: [4, 4], strokeWidth: 1.2 },
              encoding: {
                x: x("at", null),
                y: { field: "at", type: "quantitative", scale: { domain: UNIT }, title: "accuracy", axis: shares },
              },
            },
            {
              data: { values },
              mark: { type: "rect", fill: COLOUR.accent, fillOpacity: 0.25, stroke: COLOUR.paper, strokeWidth: 1 },
              encoding: {
                x: x("low", null),
                x2: { field: "high" },
                y: { field: "zero", type: "quantitative" },
                y2: { field: "accuracy" },
              },
            },
            {
              data: { values },
              mark: { type: "rule", stroke: COLOUR.bad, strokeWidth: 2 },
              encoding: {
                x: x("confidence", null),
                y: { field: "accuracy", type: "quantitative" },
                y2: { field: "confidence" },
              },
            },
            {
              data: { values },
              mark: {
                type: "point",
                fill: COLOUR.accent,
                stroke: COLOUR.paper,
                strokeWidth: 1.5,
                size: 55,
                opacity: 1,
              },
              encoding: { x: x("confidence", null), y: { field: "accuracy", type: "quantitative" } },
            },
          ],
        },
        {
          width,
          height: 54,
          data: { values },
          mark: { type: "rect", fill: COLOUR.faint, fillOpacity: 0.6, stroke: COLOUR.paper, strokeWidth: 1 },
          encoding: {
            x: x("low", "confidence"),
            x2: { field: "high" },
            y: { field: "zero", type: "quantitative", title: "images", axis: { format: ".0%", tickCount: 2 } },
            y2: { field: "share" },
          },
        },
      ],
    },
    `Reliability diagram: expected calibration error ${percent(ece)}. ${sentenceOn(values)}`,
  );
}

function sentenceOn(bins: readonly { readonly count: number; readonly over: boolean }[]): string {
  const all = bins.reduce((sum, { count }) => sum + count, 0);
  const over = bins.reduce((sum, bin) => sum + (bin.over ? bin.count : 0), 0);
  if (all === 0) return "There are no images.";
  return `${percent(over / all)} of the images lie in bins where the model is surer than it is right.`;
}

/** Share of errors among the images that the model is surest of, by how many it answers. */
export async function riskCoverageFigure({ risks, aurc }: RiskCoverage, width: number): Promise<Figure> {
  const points = Math.min(200, risks.length);
  const values = Array.from({ length: points }, (_, i) => {
    const at = Math.max(0, Math.round(((i + 1) / points) * risks.length) - 1);
    return { coverage: (at + 1) / risks.length, risk: risks[at]! };
  });
  return draw(
    {
      width,
      height: width * 0.55,
      data: { values },
      encoding: {
        x: {
          field: "coverage",
          type: "quantitative",
          title: "answered, the surest first",
          axis: { ...shares, grid: false },
          scale: { domain: UNIT },
        },
        y: { field: "risk", type: "quantitative", title: "errors among them", axis: shares, scale: { domainMin: 0 } },
      },
      layer: [
        { mark: { type: "area", fill: COLOUR.bad, fillOpacity: 0.15 } },
        { mark: { type: "line", stroke: COLOUR.bad, strokeWidth: 2 } },
      ],
    },
    `Risk-coverage curve: errors grow to ${percent(risks.at(-1) ?? 0)} when every image is answered; the area under the curve is ${aurc.toFixed(4)}.`,
  );
}
