import type { TrainingPart } from "../data/training-part.ts";
import { LockstepError } from "../errors.ts";
import { stepsPerEpoch } from "../plan/plan.ts";
import type { DatasetFacts, MachineFacts, RunFacts } from "./facts.ts";
import { type ConfigFile, type ModelFile, readModelFile, readRecipe } from "./files.ts";
import { learningRates, scheduleOf } from "./learning-rates.ts";
import { MODELS } from "./models.ts";
import { type RunOptions, usage } from "./options.ts";
import { placeOf, standbyNote } from "./place.ts";
import { DEFAULT_RECIPE, RECIPES } from "./recipes/index.ts";
import { type Config, configSchema, type Recipe } from "./schema.ts";
import type { Settings } from "./settings.ts";
import { VALIDATION_BATCH, validationInterval } from "./validation.ts";

export interface ResolvedConfig {
  readonly config: Config;
  /** Sentences for people: what was derived or reduced, and why. */
  readonly notes: readonly string[];
}

/** Smallest micro-batch: one sample has no variance for batch norm. */
const SMALLEST_MICRO_BATCH = 2;
/** Steps of an epoch that a derived batch aims at in data sets too small for the recipe's batch. */
const LEAST_STEPS_PER_EPOCH = 20;

/**
 * The config of a run: options beat the --config file, which beats the recipe; what none of them says follows from data
 * set and machine. Everything that touches bits is decided here, once.
 * @throws LockstepError LS_USAGE, LS_CONFIG_* or LS_MODEL_* (exit code 2) with the value that is wrong and the mend.
 */
export function resolveConfig(
  given: RunOptions,
  dataset: DatasetFacts,
  machine: MachineFacts,
  run: RunFacts,
): ResolvedConfig {
  const notes: string[] = [];
  const options = withFileOptions(given, run.file);
  const fromFile = run.file?.recipe ?? {};
  const part = trainingPartOf(given, run.file);
  if (fromFile.data !== undefined && fromFile.data.sha256 !== dataset.sha256) {
    throw new LockstepError("LS_CONFIG_DATA", `${run.file?.path} was made for other training data.`, {
      hint: `Give that data set with --data, or take "data" out of the file; ${dataset.directory} is another one.`,
      exitCode: 2,
    });
  }
  if (part?.kind === "holdOut" && options.holdOut !== undefined && Math.abs(1 / part.oneIn - options.holdOut) > 1e-3) {
    notes.push(`--hold-out ${options.holdOut} holds out one in ${part.oneIn} training images.`);
  }
  const base = baseOf(options, fromFile);
  const settings = { ...base, ...settingsOf(fromFile) };
  const explicitBatch = options.batch ?? fromFile.batch;

  const shards = shardsFor(options.shards ?? fromFile.shards, settings.shards, dataset.trainImages, notes);
  const batch = batchFor(explicitBatch, settings.batch, shards, dataset.trainImages, notes);
  const perEpoch = stepsPerEpoch(dataset.trainImages, batch, shards);
  // A file of whole steps keeps its length in epochs when the batch changes.
  const usual = fromFile.steps === undefined ? settings.epochs : fromFile.steps / (fromFile.stepsPerEpoch ?? perEpoch);
  const steps = options.steps ?? Math.max(1, Math.round((options.epochs ?? usual) * perEpoch));
  const stretch = steps / perEpoch / (fromFile.resolutions === undefined ? base.epochs : usual);
  const rates = ratesFor(options, fromFile, settings, { batch, steps }, notes);
  const modelFile = modelFileFor(options, run.file);

  const recipe: Recipe = {
    format: 1,
    recipe: settings.recipe,
    model: modelFor(options, settings, modelFile),
    data: {
      sha256: dataset.sha256,
      trainImages: dataset.trainImages,
      classes: dataset.classes,
      channels: dataset.channels,
      height: dataset.height,
      width: dataset.width,
    },
    ...(part === null ? {} : { trainingPart: part }),
    seed: options.seed ?? settings.seed,
    shards,
    batch,
    stepsPerEpoch: perEpoch,
    steps,
    learningRates: rates,
    resolutions: resolutionsFor(settings.resolutions, stretch, dataset),
    optimizer: settings.optimizer,
    labelSmoothing: settings.labelSmoothing,
    ema: settings.ema,
    augmentation: {
      ...settings.augmentation,
      mean: perChannel("mean", settings.augmentation.mean ?? dataset.mean, dataset),
      deviation: perChannel("deviation", settings.augmentation.deviation ?? dataset.deviation, dataset),
    },
    ...earlyStoppingOf(options, fromFile, part, { steps, stepsPerEpoch: perEpoch }),
    ...(settings.mixing === undefined ? {} : { mixing: settings.mixing }),
    ...computingOf(options, settings, machine),
    wire: settings.wire,
    bucketBytes: settings.bucketBytes,
    ...(options.exchange === "none" ? { exchange: "none" as const } : {}),
    flipAveraging: settings.flipAveraging,
  };
  const place = placeOf({ options, file: run.file, dataset, machine, recipe, modelFile, run });
  notes.push(...standbyNote(place.workers, shards));
  if (recipe.exchange === "none") {
    notes.push("--exchange none: gradients are computed and thrown away; this measures, it does not train.");
  }
  return { config: checked({ runId: run.runId, recipe, place }), notes };
}

/**
 * Which training images a run with these options trains on; null for all. The data set is opened with it.
 * @throws LockstepError as readRecipe
 */
export function trainingPartOf(given: RunOptions, file: ConfigFile | null): TrainingPart | null {
  const options = withFileOptions(given, file);
  if (options.fold !== undefined) return { kind: "fold", fold: options.fold };
  if (options.holdOut === undefined) return file?.recipe.trainingPart ?? null;
  if (options.holdOut === 0) return null;
  const seed = options.seed ?? file?.recipe.seed ?? baseOf(options, file?.recipe ?? {}).seed;
  return { kind: "holdOut", oneIn: Math.round(1 / options.holdOut), seed };
}

/**
 * When the run ends before its last step. A file that says so counts as far as images are held out.
 * @throws LockstepError LS_USAGE
 */
function earlyStoppingOf(
  { patience: asked, validateEvery }: RunOptions,
  { earlyStopping: before }: Partial<Recipe>,
  part: TrainingPart | null,
  length: Pick<Recipe, "steps" | "stepsPerEpoch">,
): Pick<Recipe, "earlyStopping"> {
  const patience = asked ?? before?.patience ?? 0;
  if (patience === 0) return {};
  if (part?.kind !== "holdOut") {
    if (asked === undefined) return {};
    throw usage("--patience needs images that are held out.", "Give --hold-out 0.1 as well.");
  }
  if (validateEvery === 0) throw usage("--patience needs validations.", "Leave --validate-every 0 out.");
  const kept = validateEvery === undefined ? before?.everySteps : undefined;
  const everySteps = kept ?? validationInterval(validateEvery, length);
  return { earlyStopping: { everySteps, batch: before?.batch ?? VALIDATION_BATCH, patience } };
}

/** The settings of the recipe that is asked for. A file whose recipe has another name says itself what that recipe said. */
function baseOf(options: RunOptions, fromFile: Partial<Recipe>): Settings {
  const { recipe } = fromFile;
  const known = recipe !== undefined && Object.hasOwn(RECIPES, recipe) ? recipe : DEFAULT_RECIPE;
  return readRecipe(options.recipe ?? known, options.model ?? fromFile.model?.name);
}

/** Share of N times one worker's speed that N equal workers reach: the largest range of shards sets the pace. */
export const shardEfficiency = (shards: number, workers: number): number =>
  shards / (workers * Math.ceil(shards / workers));

/** --epochs replaces the file's steps and the other way round. */
function withFileOptions(options: RunOptions, file: ConfigFile | null): RunOptions {
  const { epochs, steps, ...rest } = file?.options ?? {};
  const length = options.epochs !== undefined || options.steps !== undefined ? {} : { epochs, steps };
  const merged = { ...rest, ...length, ...options };
  return Object.fromEntries(Object.entries(merged).filter(([, value]) => value !== undefined)) as RunOptions;
}

/** The settings that the recipe part of a config.json stands for. */
function settingsOf(recipe: Partial<Recipe>): Partial<Settings> {
  const {
    format: _format,
    data: _data,
    trainingPart: _part,
    stepsPerEpoch: _perEpoch,
    steps: _steps,
    learningRates: table,
    exchange: _exchange,
    earlyStopping: _earlyStopping,
    ...rest
  } = recipe;
  return table === undefined || table.length === 0 ? rest : { ...rest, ...scheduleOf(table) };
}

function shardsFor(explicit: number | undefined, usual: number, trainImages: number, notes: string[]): number {
  const most = Math.floor(trainImages / SMALLEST_MICRO_BATCH);
  if (most < 1) {
    throw new LockstepError("LS_CONFIG_DATA", `A data set of ${trainImages} training image cannot be trained on.`, {
      hint: "A micro-batch needs at least two images.",
      exitCode: 2,
    });
  }
  if (explicit !== undefined && explicit > most) {
    throw usage(
      `--shards ${explicit} is too many for ${trainImages} training images: every shard needs two.`,
      `Use at most ${most}.`,
    );
  }
  if (explicit === undefined && usual > most) notes.push(`${most} shards, since there are only ${trainImages} images.`);
  return explicit ?? Math.min(usual, most);
}

function batchFor(
  explicit: number | undefined,
  usual: number,
  shards: number,
  trainImages: number,
  notes: string[],
): number {
  const least = SMALLEST_MICRO_BATCH * shards;
  if (explicit !== undefined) {
    if (explicit >= least && explicit <= trainImages) return explicit;
    const problem =
      explicit < least
        ? `--batch ${explicit} is less than two samples for each of ${shards} shards`
        : `--batch ${explicit} is more than the ${trainImages} training images`;
    throw usage(`${problem}.`, `Use ${least} to ${trainImages}, or change --shards.`);
  }
  const fitting = Math.floor(trainImages / LEAST_STEPS_PER_EPOCH / shards) * shards;
  const batch = Math.max(least, Math.min(usual, fitting));
  if (batch !== usual) notes.push(`Batch ${batch} instead of ${usual}, derived from ${trainImages} training images.`);
  return batch;
}

/** Sides of whole multiples of this many pixels pool without remainders. */
const SIDE_STEP = 8;

/** Where training changes to larger images moves with the length of the run. */
function resolutionsFor(list: Settings["resolutions"], stretch: number, { height, width }: DatasetFacts) {
  const whole = Math.min(height, width);
  const sideOf = (entry: (typeof list)[number]) => {
    if (!("part" in entry)) return entry.side ?? whole;
    const side = Math.ceil((whole * entry.part) / SIDE_STEP - 1e-9) * SIDE_STEP;
    return Math.min(whole, side);
  };
  const moved = list.map((entry) => ({ fromEpoch: Math.round(entry.fromEpoch * stretch), side: sideOf(entry) }));
  // In a very short run two changes may fall together: the later one counts.
  return moved.filter(({ fromEpoch }, i) => fromEpoch !== moved[i + 1]?.fromEpoch);
}

function ratesFor(
  options: RunOptions,
  file: Partial<Recipe>,
  settings: Settings,
  { batch, steps }: { readonly batch: number; readonly steps: number },
  notes: string[],
): number[] {
  // A table that was written once is not computed again, unless something that it depends on has changed.
  const table = file.learningRates;
  const sameBatch = batch === settings.batch;
  if (table !== undefined && options.lr === undefined && sameBatch && table.length === steps) return [...table];
  const peakRate = options.lr ?? settings.peakRate * (batch / settings.batch);
  if (options.lr === undefined && !sameBatch) {
    notes.push(`Peak learning rate ${Number(peakRate.toPrecision(3))}, in proportion to the batch.`);
  }
  return learningRates(steps, { peakRate, warmup: settings.warmup });
}

function modelFileFor(options: RunOptions, file: ConfigFile | null): ModelFile | null {
  const given = options.model ?? file?.recipe.model?.name;
  if (given === undefined) return null;
  if (given !== "file" || options.model !== undefined) return readModelFile(given);
  const path = file?.place.modelFile;
  if (path === undefined || path === null)
    throw usage("The config's model is a file, but it names none.", "Give --model.");
  return readModelFile(path);
}

function modelFor(options: RunOptions, settings: Settings, modelFile: ModelFile | null): Recipe["model"] {
  const before = settings.model;
  const name = modelFile === null ? (options.model ?? before.name) : "file";
  if (modelFile === null && !(MODELS as readonly string[]).includes(name)) {
    throw new LockstepError("LS_MODEL_UNKNOWN", `There is no model "${name}".`, {
      hint: `Use ${MODELS.join(", ")} or the path of a JavaScript module (--model ./file.js).`,
      exitCode: 2,
    });
  }
  // Widths and the like belong to the model for which they were written.
  const builderOptions = name === before.name ? before.options : {};
  return {
    name,
    sourceSha256: modelFile?.sha256 ?? null,
    options: builderOptions,
    statisticsMomentum: before.statisticsMomentum,
  };
}

/** bfloat16 exists in graphs only: eager execution turns `auto` to float32. */
function computingOf(options: RunOptions, settings: Settings, machine: MachineFacts) {
  const asked = options.precision ?? settings.precision;
  const execution = supported("execution", options.execution ?? settings.execution, machine.executions);
  const eager = execution === "eager";
  if (eager && asked === "bf16") {
    throw usage("--precision bf16 does not go with --execution eager.", "Leave --execution out, or use float32.");
  }
  const precision = eager ? ("float32" as const) : supported("precision", asked, machine.precisions);
  return { precision, execution };
}

function supported<Name extends string>(what: string, asked: Name | "auto", machine: readonly Name[]): Name {
  if (asked === "auto") return machine[0]!;
  if (machine.includes(asked)) return asked;
  throw new LockstepError("LS_CONFIG_SUPPORT", `--${what} ${asked} is not supported here.`, {
    hint: `Use ${machine.join(" or ")}, or auto.`,
    exitCode: 2,
  });
}

function perChannel(name: string, values: readonly number[], { channels }: DatasetFacts): number[] {
  if (values.length === channels) return [...values];
  throw usage(`The recipe's ${name} has ${values.length} numbers; images have ${channels} channels.`, "Leave it null.");
}

function checked(config: Config): Config {
  const parsed = configSchema.safeParse(config);
  if (parsed.success) return parsed.data;
  const { path, message } = parsed.error.issues[0]!;
  throw new LockstepError("LS_CONFIG_INVALID", `The config is not valid: ${path.join(".")}: ${message}.`, {
    hint: "Change the option, the --config file or the recipe that says so.",
    exitCode: 2,
  });
}
