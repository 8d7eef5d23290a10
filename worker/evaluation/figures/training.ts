import type { EventFact, Pace, StepFact, ValidationFact } from "../history.ts";
import { COLOUR, draw, type Figure, upTo } from "./draw.ts";

/** Points that a curve shows at most; more steps are averaged. */
const POINTS = 240;

interface Point {
  readonly step: number;
  readonly value: number;
}

/**
 * Loss and training accuracy over steps, averaged to at most 240 points, and what was found on held-out images meanwhile;
 * null without any.
 */
export async function learningFigure(
  steps: readonly StepFact[],
  validations: readonly ValidationFact[],
  width: number,
): Promise<Figure | null> {
  const loss = thinned(steps, (step) => step.loss);
  const accuracy = thinned(steps, (step) => step.accuracy);
  if (loss.length < 2) return null;
  const last = steps.at(-1)!.step;
  const panel = (values: Point[], held: Point[], title: string, colour: string, format: string, zero: boolean) => ({
    width,
    height: 120,
    data: { values },
    encoding: {
      x: {
        field: "step",
        type: "quantitative" as const,
        title: null,
        scale: { domain: [0, last], nice: false },
        axis: { grid: false, tickCount: width > 500 ? 8 : 4, format: ",d" },
      },
      y: { field: "value", type: "quantitative" as const, title, scale: { zero }, axis: { tickCount: 4, format } },
    },
    layer: [
      { mark: { type: "line" as const, stroke: colour, strokeWidth: 1.8, strokeJoin: "round" as const } },
      {
        data: { values: held },
        mark: {
          type: "line" as const,
          stroke: COLOUR.ink,
          strokeWidth: 1.6,
          strokeDash: [4, 3],
          point: { fill: COLOUR.ink, size: 14 },
        },
      },
    ].slice(0, held.length === 0 ? 1 : 2),
  });
  const heldOut = validations.map(({ step, accuracy: value }) => ({ step, value }));
  const heldOutLoss = validations.flatMap(({ step, loss: value }) => (value === null ? [] : [{ step, value }]));
  const panels = [panel(loss, heldOutLoss, "loss", COLOUR.bad, ".2~f", false)];
  const title = heldOut.length === 0 ? "training accuracy" : "accuracy";
  if (accuracy.length > 1) panels.push(panel(accuracy, heldOut, title, COLOUR.good, ".0%", true));
  const best = accuracy.at(-1);
  const newest = validations.at(-1);
  return draw(
    { spacing: 18, vconcat: panels },
    `Over ${last} steps the loss goes from ${loss[0]!.value.toFixed(3)} to ${loss.at(-1)!.value.toFixed(3)}${
      best === undefined ? "" : ` and accuracy on augmented training images to ${(100 * best.value).toFixed(1)} %`
    }${newest === undefined ? "" : `; on held-out images accuracy was ${(100 * newest.accuracy).toFixed(1)} % after step ${newest.step}`}.`,
  );
}

function thinned(steps: readonly StepFact[], of: (step: StepFact) => number | null): Point[] {
  const points = steps.flatMap((step) => {
    const value = of(step);
    return value === null ? [] : [{ step: step.step, value }];
  });
  const size = Math.max(1, Math.ceil(points.length / POINTS));
  return Array.from({ length: Math.ceil(points.length / size) }, (_, i) => {
    const part = points.slice(i * size, (i + 1) * size);
    return { step: part.at(-1)!.step, value: part.reduce((sum, { value }) => sum + value, 0) / part.length };
  });
}

/** Images a second over time, with the moments at which the membership changed. */
export async function paceFigure(
  pace: readonly Pace[],
  events: readonly EventFact[],
  start: number | null,
  width: number,
): Promise<Figure | null> {
  if (pace.length < 2) return null;
  const end = pace.at(-1)!.to;
  const unit =
    end > 7200
      ? { name: "hours", seconds: 3600 }
      : end > 180
        ? { name: "minutes", seconds: 60 }
        : { name: "seconds", seconds: 1 };
  const values = pace.flatMap(({ from, to, imagesPerSecond }) =>
    [from, to].map((seconds) => ({ at: seconds / unit.seconds, imagesPerSecond })),
  );
  const marks = events.flatMap(({ time }) =>
    time === null || start === null || time < start ? [] : [{ at: (time - start) / 1000 / unit.seconds }],
  );
  const x = {
    field: "at",
    type: "quantitative",
    title: `${unit.name} since the first step`,
    axis: { grid: false },
    scale: { domain: upTo(end / unit.seconds) },
  } as const;
  const fastest = Math.max(...pace.map(({ imagesPerSecond }) => imagesPerSecond));
  return draw(
    {
      width,
      height: 130,
      layer: [
        {
          data: { values },
          mark: { type: "area", fill: COLOUR.accent, fillOpacity: 0.18 },
          encoding: {
            x,
            y: {
              field: "imagesPerSecond",
              type: "quantitative",
              stack: null,
              title: "images/s",
              axis: { tickCount: 4 },
            },
          },
        },
        {
          data: { values },
          mark: { type: "line", stroke: COLOUR.accent, strokeWidth: 1.6 },
          encoding: { x, y: { field: "imagesPerSecond", type: "quantitative" } },
        },
        {
          data: { values: marks },
          mark: { type: "rule", stroke: COLOUR.bad, strokeDash: [3, 3], strokeWidth: 1.2, clip: false },
          encoding: { x },
        },
      ],
    },
    `Images per second over time, at most ${fastest.toFixed(1)}; dashed lines mark ${marks.length} changes of the membership.`,
  );
}
