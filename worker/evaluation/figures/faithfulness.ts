import type { Faithfulness } from "../faithfulness/result.ts";
import { COLOUR, draw, type Figure, UNIT } from "./draw.ts";

const NAMES = { map: "map", random: "any order", centre: "from the middle" } as const;
type Ranking = keyof typeof NAMES;
const RANKINGS = Object.keys(NAMES) as Ranking[];
const colours = { domain: RANKINGS.map((name) => NAMES[name]), range: [COLOUR.accent, COLOUR.faint, COLOUR.good] };
const percent = { format: ".0%", tickCount: 5 } as const;
const fixed = (value: number) => value.toFixed(2);

/** How sure the model stays, by the share of pixels taken away: dashed where the least relevant ones go first. */
export async function roadFigure({ rankings, roadShares }: Faithfulness, width: number): Promise<Figure> {
  const values = RANKINGS.flatMap((name) =>
    (["most", "least"] as const).flatMap((first) =>
      roadShares.map((share, i) => ({ share, sure: rankings[name][first][i]!, order: NAMES[name], first })),
    ),
  );
  return draw(
    {
      width,
      height: width * 0.6,
      data: { values },
      mark: { type: "line", strokeWidth: 2, point: { size: 25 } },
      encoding: {
        x: {
          field: "share",
          type: "quantitative",
          title: "pixels removed",
          axis: { ...percent, grid: false },
          scale: { domain: UNIT },
        },
        y: {
          field: "sure",
          type: "quantitative",
          title: "still sure of its answer",
          axis: percent,
          scale: { domainMin: 0 },
        },
        color: { field: "order", type: "nominal", scale: colours, legend: { title: null, orient: "bottom" } },
        strokeDash: {
          field: "first",
          type: "nominal",
          scale: { domain: ["most", "least"], range: [[], [4, 4]] },
          legend: null,
        },
      },
    },
    `ROAD: ${RANKINGS.map((name) => `${NAMES[name]} ${fixed(rankings[name].road.mean)}`).join(", ")}; more is better.`,
  );
}

/** Insertion and deletion curves side by side. */
export async function curvesFigure({ rankings, curveShares }: Faithfulness, width: number): Promise<Figure> {
  const kinds = [
    ["insertionCurve", "inserted into a blur"],
    ["deletionCurve", "greyed out"],
  ] as const;
  const part = ([kind, title]: (typeof kinds)[number]) => ({
    width: width / 2 - 30,
    height: width * 0.5,
    data: {
      values: RANKINGS.flatMap((name) =>
        curveShares.map((share, i) => ({ share, sure: rankings[name][kind][i]!, order: NAMES[name] })),
      ),
    },
    mark: { type: "line" as const, strokeWidth: 2 },
    encoding: {
      x: {
        field: "share",
        type: "quantitative" as const,
        title,
        axis: { format: ".0%", tickCount: 3, grid: false },
        scale: { domain: UNIT },
      },
      y: {
        field: "sure",
        type: "quantitative" as const,
        title: kind === "insertionCurve" ? "sure" : null,
        axis: percent,
        scale: { domainMin: 0 },
      },
      color: {
        field: "order",
        type: "nominal" as const,
        scale: colours,
        legend: { title: null, orient: "bottom" as const },
      },
    },
  });
  const areas = RANKINGS.map(
    (name) => `${NAMES[name]} ${fixed(rankings[name].insertion.mean)} and ${fixed(rankings[name].deletion.mean)}`,
  );
  return draw(
    { hconcat: kinds.map(part) },
    `Areas under the insertion curve, more is better, and under the deletion curve, less is better: ${areas.join(", ")}.`,
  );
}

/** Likeness of the maps with those of the trained model, layer after layer shuffled from the output on. */
export async function randomisationFigure(
  { layers, passed }: NonNullable<Faithfulness["randomisation"]>,
  width: number,
): Promise<Figure> {
  const values = [{ layer: "trained", correlation: 1 }, ...layers].map((step, index) => ({ ...step, index }));
  return draw(
    {
      width,
      height: 150,
      data: { values },
      encoding: {
        x: {
          field: "index",
          type: "quantitative",
          title: "layers shuffled, from the output on",
          axis: { format: "d", grid: false, tickMinStep: 1 },
        },
        y: { field: "correlation", type: "quantitative", title: "likeness", axis: { tickCount: 4 } },
      },
      layer: [
        { mark: { type: "line", stroke: COLOUR.accent, strokeWidth: 2 } },
        { mark: { type: "point", fill: COLOUR.accent, stroke: COLOUR.paper, size: 45, opacity: 1 } },
      ],
    },
    `Rank correlation of the maps with those of the trained model: ${fixed(layers.at(-1)?.correlation ?? 1)} when all layers are shuffled; the maps ${passed ? "depend" : "do not depend"} on what was learned.`,
  );
}
