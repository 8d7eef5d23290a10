import type { Config } from "../../shared/config/schema.ts";
import type { TrainingPart } from "../../shared/data/training-part.ts";
import type { EventFact, StepFact } from "./history.ts";
import type { ReportFacts } from "./report.ts";
import type { ReportJson } from "./report-schema.ts";

/** A line of a table: what, and how much. */
export type Row = readonly [name: string, value: string];

const known = (rows: readonly (readonly [string, string | null | undefined])[]): Row[] =>
  rows.filter((row): row is Row => row[1] !== null && row[1] !== undefined);

const given = <T>(value: T | null | undefined, write: (value: T) => string): string | null =>
  value === null || value === undefined ? null : write(value);

const count = (value: number) => value.toLocaleString("en");

/** 3.2 s, 4 min 10 s, 2 h 5 min. */
export function duration(seconds: number): string {
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** How the run went. */
export function runRows(facts: ReportFacts): Row[] {
  return known([
    ["Workers, at most", given(facts.workers, count)],
    ["Shards", given(facts.shards, count)],
    ["Steps", given(facts.steps, count)],
    ["Epochs", given(facts.epochs, count)],
    ["Images per second", given(facts.imagesPerSecond, (value) => value.toFixed(1))],
    ["Training took", given(facts.wallSeconds, duration)],
    ["Evaluation took", given(facts.evaluationSeconds, duration)],
    ["Memberships (views)", given(facts.views, count)],
    ["Failures survived", given(facts.failuresSurvived, count)],
    [
      "Every image once per epoch",
      given(facts.samplesPerEpochExact, (exact) => (exact ? "yes, from the ledger" : "no")),
    ],
    [
      "Reproducible",
      given(
        facts.reproducible,
        (value) => `${value ? "yes" : "no"}${given(facts.reproducibleReason, (why) => `: ${why}`) ?? ""}`,
      ),
    ],
  ]);
}

/** The recipe, in words. */
export function recipeRows({ recipe }: Config): Row[] {
  const { optimizer, augmentation, data } = recipe;
  const rates = recipe.learningRates;
  const peak = rates.reduce((most, rate) => Math.max(most, rate), 0);
  return known([
    ["Recipe", recipe.recipe],
    [
      "Model",
      [recipe.model.name, ...Object.entries(recipe.model.options).map(([key, value]) => `${key} ${value}`)].join(", "),
    ],
    [
      "Training images",
      `${count(data.trainImages)} of ${data.channels} × ${data.height} × ${data.width}, ${data.classes} classes${partWords(recipe.trainingPart)}`,
    ],
    ["Seed", String(recipe.seed)],
    ["Global batch", `${count(recipe.batch)}, ${count(recipe.stepsPerEpoch)} steps an epoch`],
    [
      "Learning rate",
      `up to ${Number(peak.toPrecision(3))} at step ${count(rates.indexOf(peak) + 1)}, ends at ${Number((rates.at(-1) ?? 0).toPrecision(3))}`,
    ],
    [
      "Optimizer",
      optimizer.kind === "sgd"
        ? `SGD, momentum ${optimizer.momentum}${optimizer.nesterov ? " (Nesterov)" : ""}, weight decay ${optimizer.weightDecay}`
        : `AdamW, betas ${optimizer.beta1} and ${optimizer.beta2}, weight decay ${optimizer.weightDecay}`,
    ],
    ["Label smoothing", String(recipe.labelSmoothing)],
    ["Moving average", recipe.ema === null ? "none" : `decay ${recipe.ema.decay}`],
    ["Resolution", recipe.resolutions.map(({ fromEpoch, side }) => `${side} from epoch ${fromEpoch + 1}`).join(", ")],
    ["Augmentation", augmentationWords(augmentation)],
    ["Precision", `${recipe.precision}, ${recipe.execution}, ${recipe.wire} on the wire`],
    ["Flip averaging", recipe.flipAveraging ? "predictions are the mean over the image and its mirror image" : "off"],
  ]);
}

function partWords(part: TrainingPart | undefined): string {
  if (part === undefined) return "";
  return part.kind === "fold" ? `, fold ${part.fold}` : `; 1 in ${part.oneIn} more held out`;
}

function augmentationWords({
  cropPadding,
  border,
  resizedCrop,
  flip,
  colour,
  cutout,
}: Config["recipe"]["augmentation"]): string {
  const words = [
    resizedCrop === null
      ? cropPadding > 0 && `crops after padding by ${cropPadding} (${border})`
      : `resized crops of ${resizedCrop.area.join(" to ")} of the area`,
    flip > 0 && `flips (${flip})`,
    colour !== null && "colour jitter",
    cutout > 0 && `cutout of ${cutout} of the side`,
  ].filter((word) => word !== false);
  return words.length === 0 ? "none" : words.join(", ");
}

export interface ClusterHistory {
  /** All lines that tell something, oldest first, at most 200. */
  readonly lines: readonly (EventFact & { readonly after: string })[];
  readonly omitted: number;
  /** Those that changed the membership. */
  readonly changes: readonly EventFact[];
}

const CHANGES = /view|evict|join|leave|left|lost|fail|crash|restore|heal/i;
const LINES = 200;

/** Did the membership change then? */
export const isChange = ({ kind }: EventFact): boolean => CHANGES.test(kind);

/** The cluster's history as the page shows it, with times counted from the first line. */
export function clusterHistory(events: readonly EventFact[], steps: readonly StepFact[]): ClusterHistory {
  const times = [...events, ...steps].flatMap(({ time }) => (time === null ? [] : [time]));
  const start = times.reduce((least, time) => Math.min(least, time), Number.POSITIVE_INFINITY);
  const lines = events.map((event) => ({
    ...event,
    after: event.time === null ? "" : duration((event.time - start) / 1000),
  }));
  return {
    lines: lines.slice(0, LINES),
    omitted: Math.max(0, lines.length - LINES),
    changes: events.filter(isChange),
  };
}

/** Hashes that name the run's results. */
export function hashRows({ hashes }: ReportJson): Row[] {
  return known([
    ["Weights", hashes.weightsSha256],
    ["State", hashes.stateSha256],
    ["Lineage", hashes.lineage],
    ["Predictions", hashes.predictionsSha256],
  ]);
}

/** 12,345 or 4.36 M. */
export const millions = (value: number): string => (value < 1e6 ? count(value) : `${(value / 1e6).toFixed(2)} M`);
