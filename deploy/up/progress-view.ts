import { type RunStatus, secondsLeft, type WorkerStatus } from "./status.ts";
import { bar, bytes, columns, duration, figure, fit, percent } from "./text.ts";

const BAR_WIDTH = 28;
/** Rows of workers that are shown one by one. */
const MOST_ROWS = 20;
const MOST_KEPT_OUT = 3;

export interface ViewSize {
  readonly width: number;
  readonly rows?: number;
}

/** The whole view of a run on a terminal, as lines: progress, figures, one row for each worker. */
export function runView(status: RunStatus, { width, rows = MOST_ROWS }: ViewSize): string[] {
  return [
    progressLine(status),
    figuresLine(status),
    ...(status.waiting === null ? [] : [`waiting: ${status.waiting}`]),
    ...keptOut(status).slice(0, MOST_KEPT_OUT),
    "",
    ...workerTable(status.workers, rows),
  ].map((line) => fit(line, width));
}

/** Workers that are not let in, each with its reason. */
const keptOut = ({ workers }: RunStatus): string[] =>
  workers.filter(({ why }) => why !== "").map(({ name, why }) => `${name} is not let in: ${why}`);

/** One line for logs and for terminals that cannot rewrite. */
export function plainLine(status: RunStatus): string {
  const { step, steps, workers, waiting } = status;
  const computing = workers.filter((worker) => worker.state === "computing").length;
  const parts = [
    status.phase,
    `step ${step}/${steps}`,
    epochText(status),
    `loss ${figure(status.loss)}`,
    `${figure(status.imagesPerSecond)} images/s`,
    `${computing} of ${workers.length} workers compute`,
    leftText(status),
    waiting === null ? "" : `waiting: ${waiting}`,
  ];
  return parts.filter((part) => part !== "").join(", ");
}

function progressLine(status: RunStatus): string {
  const { evaluation, phase, step, steps } = status;
  if (phase === "evaluating" && evaluation !== null) {
    const { done, batches } = evaluation;
    return `evaluating ${bar(done / Math.max(1, batches), BAR_WIDTH)} batch ${done}/${batches}`;
  }
  const share = steps === 0 ? 0 : step / steps;
  const parts = [
    `${bar(share, BAR_WIDTH)} ${percent(share)}`,
    `step ${step}/${steps}`,
    epochText(status),
    leftText(status),
  ];
  return `${phase} ${parts.filter((part) => part !== "").join("  ")}`;
}

function figuresLine(status: RunStatus): string {
  const { loss, accuracy, imagesPerSecond, view, term, checkpoint, validation } = status;
  return [
    `loss ${figure(loss)}`,
    `accuracy ${percent(accuracy)}`,
    ...(validation === null ? [] : [`validation ${percent(validation.accuracy)} at ${validation.step}`]),
    `${figure(imagesPerSecond)} images/s`,
    view === null ? `term ${term}` : `view ${view}`,
    checkpoint === null ? "no checkpoint yet" : `checkpoint ${checkpoint}`,
  ].join("  ");
}

function epochText({ step, steps, stepsPerEpoch }: RunStatus): string {
  if (stepsPerEpoch <= 0) return "";
  return `epoch ${Math.floor(step / stepsPerEpoch)}/${figure(steps / stepsPerEpoch)}`;
}

function leftText(status: RunStatus): string {
  const seconds = secondsLeft(status);
  return status.phase !== "running" || seconds === null ? "" : `${duration(seconds)} left`;
}

const HEADER = ["worker", "state", "shards", "phase", "ms/shard", "images", "memory"];

/** One row for each worker, the first `most` of them; the others as one line that counts them by state. */
export function workerTable(workers: readonly WorkerStatus[], most: number): string[] {
  if (workers.length === 0) return ["no worker has joined yet"];
  const shown = workers.slice(0, most);
  const lines = columns([HEADER, ...shown.map(workerRow)], [4, 5, 6]);
  const rest = workers.slice(most);
  if (rest.length === 0) return lines;
  const counts = new Map<string, number>();
  for (const { state } of rest) counts.set(state, (counts.get(state) ?? 0) + 1);
  const states = [...counts].map(([state, count]) => `${count} ${state}`).join(", ");
  return [...lines, `and ${rest.length} more: ${states}`];
}

function workerRow(worker: WorkerStatus): string[] {
  return [
    worker.name,
    worker.state,
    worker.shards === "" ? "-" : worker.shards,
    worker.phase === "" ? "-" : worker.phase,
    worker.shardMillis > 0 ? figure(worker.shardMillis) : "-",
    String(worker.images),
    bytes(worker.residentBytes),
  ];
}
