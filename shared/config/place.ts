import { resolve } from "node:path";
import { DEFAULT_TRACE_STEPS } from "../trace/part.ts";
import type { DatasetFacts, MachineFacts, RunFacts } from "./facts.ts";
import type { ConfigFile, ModelFile } from "./files.ts";
import { type RunOptions, usage } from "./options.ts";
import { DEFAULT_BALANCE, EXAMINED_IMAGES, type Place, type Recipe } from "./schema.ts";
import { DEFAULT_TIMING } from "./timing.ts";
import { VALIDATION_BATCH, validationInterval } from "./validation.ts";

/** What one worker takes besides its vectors: Node, TensorFlow and its working memory for a micro-batch. */
const WORKER_BYTES = 2 ** 30;
const EVALUATION_BATCH = 100;
const KEPT_CHECKPOINTS = 3;

interface PlaceNeeds {
  readonly options: RunOptions;
  readonly file: ConfigFile | null;
  readonly dataset: DatasetFacts;
  readonly machine: MachineFacts;
  readonly recipe: Recipe;
  readonly modelFile: ModelFile | null;
  readonly run: RunFacts;
}

/**
 * The place part of a config. Directories and addresses come from this run, never from the --config file of another.
 * @throws LockstepError LS_USAGE
 */
export function placeOf({ options, file, dataset, machine, recipe, modelFile, run }: PlaceNeeds): Place {
  const before = file?.place ?? {};
  const workers = options.workers ?? before.workers ?? defaultWorkers(machine, recipe.shards);
  const minWorkers = options.minWorkers ?? before.minWorkers ?? 1;
  if (minWorkers > workers) {
    throw usage(`--min-workers ${minWorkers} is more than the ${workers} workers of the run.`, "Raise --workers.");
  }
  const temperatureFrom = options.temperatureFrom ?? before.temperatureFrom;
  const wantsEvaluation = options.eval ?? before.evaluation !== null;
  const evaluation = before.evaluation ?? defaultEvaluation(dataset.testImages);
  const validation = validationFor(options, before.validation, recipe);
  return {
    workers,
    minWorkers,
    dataDirectory: dataset.directory,
    outDirectory: run.outDirectory,
    modelFile: modelFile?.path ?? null,
    listen: options.listen ?? before.listen ?? "127.0.0.1",
    // Without exchange nothing is learned.
    evaluation: wantsEvaluation && dataset.testImages > 0 && recipe.exchange !== "none" ? evaluation : null,
    ...(validation === undefined ? {} : { validation }),
    ...(temperatureFrom === undefined ? {} : { temperatureFrom: resolve(temperatureFrom) }),
    ...traceOf(options),
    checkpoint: before.checkpoint ?? { everySteps: recipe.stepsPerEpoch, keep: KEPT_CHECKPOINTS },
    balance: before.balance ?? DEFAULT_BALANCE,
    timing: { ...DEFAULT_TIMING, ...before.timing },
    nats: run.nats,
  };
}

/**
 * What --trace and --trace-steps say, for a place; each life of a run says it anew, so that no older trace is written over.
 * @throws LockstepError LS_USAGE
 */
export function traceOf({ trace, traceSteps }: RunOptions): Pick<Place, "trace"> {
  if (trace === undefined && traceSteps !== undefined) throw usage("--trace-steps needs --trace.");
  return trace === undefined ? {} : { trace: { file: resolve(trace), steps: traceSteps ?? DEFAULT_TRACE_STEPS } };
}

/**
 * Only held-out images are looked at while a run trains.
 * @throws LockstepError LS_USAGE
 */
function validationFor(
  { validateEvery, eval: wantsEvaluation }: RunOptions,
  before: Place["validation"],
  recipe: Recipe,
): Place["validation"] {
  const heldOut = recipe.trainingPart?.kind === "holdOut";
  if (validateEvery !== undefined && validateEvery > 0 && !heldOut) {
    throw usage("--validate-every needs images that are held out.", "Give --hold-out 0.1 as well.");
  }
  // The recipe says then how often.
  if (recipe.earlyStopping !== undefined) return undefined;
  if (!heldOut || validateEvery === 0 || recipe.exchange === "none") return undefined;
  if (validateEvery === undefined && before !== undefined) return before;
  if (validateEvery === undefined && wantsEvaluation === false) return undefined;
  return { everySteps: validationInterval(validateEvery, recipe), batch: before?.batch ?? VALIDATION_BATCH };
}

/** How a test set of this many images is evaluated where nobody says otherwise. */
export const defaultEvaluation = (testImages: number): NonNullable<Place["evaluation"]> => ({
  batch: Math.min(EVALUATION_BATCH, Math.max(1, testImages)),
  examined: EXAMINED_IMAGES,
});

/** One worker for each core, no more than shards, no more than memory allows, at least one. */
function defaultWorkers({ cores, memoryBytes }: MachineFacts, shards: number): number {
  return Math.max(1, Math.min(cores, shards, Math.floor(memoryBytes / WORKER_BYTES)));
}

/** What a person should know about the number of workers. */
export function standbyNote(workers: number, shards: number): string[] {
  if (workers <= shards) return [];
  const standby = workers - shards;
  return [`${standby} of ${workers} workers ${standby === 1 ? "is a standby" : "are standbys"}: ${shards} shards.`];
}
