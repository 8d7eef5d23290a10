import { z } from "zod";
import { duration, figure, percent } from "./text.ts";

const number = z.number().nullable().catch(null);
const text = z.string().nullable().catch(null);

/** What `up` and `status` read of summary.json; the file holds more. */
export const summarySchema = z.looseObject({
  run: z.string(),
  /** done, stopped or failed. */
  outcome: z.string().catch("done"),
  model: text,
  recipe: text,
  steps: z.number().catch(0),
  epochs: number,
  workers: number,
  imagesPerSecond: number,
  wallSeconds: number,
  evaluationSeconds: number,
  weightsSha256: text,
  stateSha256: text,
  lineage: text,
  views: number,
  failuresSurvived: number,
  samplesPerEpochExact: z.boolean().nullable().catch(null),
  evaluatedOn: z.enum(["test", "held-out"]).catch("test"),
  accuracy: z
    .object({ top1: z.number(), top1Low: z.number(), top1High: z.number(), top5: z.number() })
    .nullable()
    .catch(null),
  /** Of a run that was traced: where. */
  trace: z.string().optional(),
  /** Of a run that failed. */
  code: z.string().optional(),
  message: z.string().optional(),
});

export type RunSummary = z.infer<typeof summarySchema>;

/** The end of a run for people. `report`: path of report.html, where there is one. */
export function finalText(summary: RunSummary, report: string | null): string[] {
  const { accuracy, steps, epochs, workers, imagesPerSecond, wallSeconds, evaluationSeconds } = summary;
  const lines: string[] = [];
  if (accuracy !== null) {
    const interval = `95 % interval ${percent(accuracy.top1Low)} to ${percent(accuracy.top1High)}`;
    const images = summary.evaluatedOn === "held-out" ? " of held-out training images" : "";
    lines.push(`accuracy    ${percent(accuracy.top1)}${images} (${interval}), top 5 ${percent(accuracy.top5)}`);
  }
  lines.push(
    `trained     ${steps} steps, ${figure(epochs)} epochs, up to ${workers ?? "?"} workers, ${figure(imagesPerSecond)} images/s`,
  );
  if (wallSeconds !== null) {
    const evaluated = evaluationSeconds === null ? "" : `, evaluation ${duration(evaluationSeconds)}`;
    lines.push(`took        ${duration(wallSeconds)}${evaluated}`);
  }
  const { failuresSurvived, views, samplesPerEpochExact } = summary;
  const exact = samplesPerEpochExact === true ? "every sample exactly once per epoch" : "SAMPLES WERE REPEATED OR LOST";
  lines.push(`membership  ${views ?? "?"} views, ${failuresSurvived ?? "?"} failures survived, ${exact}`);
  for (const [name, hash] of [
    ["weights", summary.weightsSha256],
    ["state", summary.stateSha256],
    ["lineage", summary.lineage],
  ] as const) {
    if (hash !== null && hash !== "") lines.push(`${name.padEnd(10)}  ${hash}`);
  }
  if (report !== null) lines.push(`report      ${report}`);
  if (summary.trace !== undefined) lines.push(`trace       ${summary.trace} (open it at https://ui.perfetto.dev)`);
  return lines;
}

export const resumeLine = (directory: string): string => `Go on with: npx lockstep resume ${directory}`;
