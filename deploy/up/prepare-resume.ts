import { resolve } from "node:path";
import { datasetFacts, machineFacts } from "../../shared/config/facts.ts";
import { type ConfigFile, readConfigFile } from "../../shared/config/files.ts";
import { type RunOptions, usage } from "../../shared/config/options.ts";
import { defaultEvaluation, traceOf } from "../../shared/config/place.ts";
import { resolveConfig, trainingPartOf } from "../../shared/config/resolve.ts";
import type { Config, Place, Recipe } from "../../shared/config/schema.ts";
import { openDataset, trainingSha256 } from "../../shared/data/dataset.ts";
import { LockstepError } from "../../shared/errors.ts";
import { configDifferences, differencesText } from "../diff/config-differences.ts";
import { checkNetwork, type NetworkOptions } from "./network-options.ts";
import { type PreparedRun, readRunConfig, runDirectory } from "./prepare.ts";
import { prepareFork } from "./prepare-fork.ts";
import { readSummary } from "./runs.ts";

const RESUME_HELP = "See `npx lockstep resume --help`.";

/** Options that say where a run happens, not what its bits are. */
const PLACE_OPTIONS: readonly string[] = [
  ...["workers", "minWorkers", "data", "out", "eval", "listen", "config"],
  ...["trace", "traceSteps"],
];

/**
 * A run that goes on: its place may change, its recipe only as a new run that begins with its last checkpoint (`fork`).
 * @throws LockstepError LS_RUN_CONFIG, LS_MEASUREMENT, LS_RUN_FINISHED, LS_RECIPE_CHANGED, LS_CONFIG_* or LS_FORK_* (exit code 2).
 */
export async function prepareResume(
  run: string,
  options: RunOptions,
  fork: boolean,
  network: NetworkOptions,
): Promise<PreparedRun> {
  const directory = runDirectory(run);
  const before = readRunConfig(directory);
  if (before.recipe.exchange === "none") {
    throw new LockstepError("LS_MEASUREMENT", `The run in ${directory} exchanged no gradients: it learned nothing.`, {
      hint: "It was made by --exchange none, to measure. Begin a new run without it.",
      exitCode: 2,
    });
  }
  const file = options.config === undefined ? null : readConfigFile(options.config);
  const given = { ...file?.options, ...defined(options) };
  if (!fork && given.out !== undefined) throw usage("--out needs --fork: a run goes on where it is.", RESUME_HELP);
  if (!fork && readSummary(directory)?.outcome === "done") {
    throw new LockstepError("LS_RUN_FINISHED", `The run in ${directory} has reached its end.`, {
      hint: "See its summary with `npx lockstep status`; a longer run begins with its last state by --fork --epochs E.",
      exitCode: 2,
    });
  }
  const place = await placeOf(before, given, file);
  checkNetwork(place.listen, network);
  const recipe = await recipeOf(before, given, file, place.dataDirectory);
  const changed = configDifferences(before.recipe, recipe);
  if (fork) return prepareFork({ directory, config: before }, { ...before, recipe, place }, changed, given.out);
  if (changed.length === 0)
    return { directory, config: { ...before, place: { ...place, outDirectory: directory } }, notes: [] };
  const differences = differencesText(changed);
  throw new LockstepError("LS_RECIPE_CHANGED", `The recipe of this run is another one: ${differences}.`, {
    hint: "Resume it as it is, or begin a new run with its last checkpoint: add --fork.",
    exitCode: 2,
  });
}

async function placeOf(before: Config, given: RunOptions, file: ConfigFile | null): Promise<Place> {
  const { outDirectory: _out, dataDirectory: _data, nats: _nats, modelFile: _model, ...changes } = file?.place ?? {};
  const { trace: _trace, ...earlier } = { ...before.place, ...changes };
  const merged: Place = { ...earlier, ...traceOf(given), timing: { ...before.place.timing, ...changes.timing } };
  const workers = given.workers ?? merged.workers;
  const dataDirectory = resolve(given.data ?? merged.dataDirectory);
  const dataset = openDataset(dataDirectory, before.recipe.trainingPart);
  const evaluation = merged.evaluation ?? defaultEvaluation(dataset.test.count);
  dataset.close();
  if ((await trainingSha256(dataDirectory)) !== before.recipe.data.sha256) {
    throw new LockstepError("LS_CONFIG_DATA", `${dataDirectory} holds other training data than this run began with.`, {
      hint: "Give the run's data set with --data.",
      exitCode: 2,
    });
  }
  return {
    ...merged,
    workers,
    minWorkers: Math.min(given.minWorkers ?? merged.minWorkers, workers),
    dataDirectory,
    listen: given.listen ?? merged.listen,
    evaluation: (given.eval ?? merged.evaluation !== null) ? evaluation : null,
  };
}

/** The recipe as it would be with these options: the run's own wherever they say nothing. */
async function recipeOf(
  before: Config,
  given: RunOptions,
  file: ConfigFile | null,
  dataDirectory: string,
): Promise<Recipe> {
  const changes = file?.recipe ?? {};
  const asked = withoutPlace(given);
  if (Object.keys(asked).length === 0 && Object.keys(changes).length === 0) return before.recipe;
  // Another recipe by name replaces this run's; else every setting that is not named stays.
  const base = given.recipe === undefined ? before.recipe : { data: before.recipe.data };
  const whole: ConfigFile = {
    path: file?.path ?? "this run's config.json",
    options: {},
    recipe: { ...base, ...changes },
    place: { modelFile: before.place.modelFile },
  };
  const dataset = openDataset(dataDirectory, trainingPartOf(asked, whole));
  try {
    const { config } = resolveConfig(asked, await datasetFacts(dataset), machineFacts(), {
      runId: before.runId,
      outDirectory: before.place.outDirectory,
      nats: null,
      file: whole,
    });
    return config.recipe;
  } finally {
    dataset.close();
  }
}

const defined = (options: RunOptions): RunOptions =>
  Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as RunOptions;

const withoutPlace = (options: RunOptions): RunOptions =>
  Object.fromEntries(Object.entries(options).filter(([name]) => !PLACE_OPTIONS.includes(name))) as RunOptions;
