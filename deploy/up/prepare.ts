import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { type DatasetFacts, datasetFacts, type MachineFacts, machineFacts } from "../../shared/config/facts.ts";
import { readConfigFile } from "../../shared/config/files.ts";
import type { RunOptions } from "../../shared/config/options.ts";
import { resolveConfig, trainingPartOf } from "../../shared/config/resolve.ts";
import { type Config, configSchema } from "../../shared/config/schema.ts";
import { openDataset } from "../../shared/data/dataset.ts";
import type { TrainingPart } from "../../shared/data/training-part.ts";
import { LockstepError, sentenceOf } from "../../shared/errors.ts";
import { cacheDirectory, ensureSynthetic, obtainDataDirectory } from "../data/locations.ts";
import { FetchDisplay } from "../data/progress.ts";
import { heldOutPredictions } from "./held-out.ts";
import { checkNetwork, type NetworkOptions } from "./network-options.ts";

/** Everything that stands in config.json before the first process starts, except the address of NATS. */
export interface PreparedRun {
  readonly directory: string;
  readonly config: Config;
  /** Sentences for people. */
  readonly notes: readonly string[];
  /** What has to lie in the directory before config.json does, once it is locked. */
  readonly begin?: () => Promise<void>;
}

/** Sorts by time, tells runs of one second apart, and is one token of a NATS subject. */
export function newRunId(now: Date, random: string = randomBytes(3).toString("hex")): string {
  const stamp = now.toISOString().slice(0, 19).replaceAll("-", "").replaceAll(":", "").replace("T", "-");
  return `${stamp}-${random}`;
}

/**
 * A new run: its data, its config, its directory.
 * @throws LockstepError LS_RUN_EXISTS (exit code 2) where --out holds a run; whatever data and config complain about.
 */
export async function prepareRun(
  options: RunOptions,
  extras: { readonly demo: boolean; readonly network: NetworkOptions; readonly devices: readonly string[] },
  signal: AbortSignal,
): Promise<PreparedRun> {
  const file = options.config === undefined ? null : readConfigFile(options.config);
  const runId = newRunId(new Date());
  const directory = newRunDirectory(options.out ?? file?.options.out, runId);
  // The address is refused before anything is fetched.
  checkNetwork(options.listen ?? file?.options.listen ?? "127.0.0.1", extras.network);
  const part = trainingPartOf(options, file);
  const { data, notes } = await factsOfData(options.data ?? file?.options.data, part, extras.demo, signal);
  const resolved = resolveConfig(options, data, machineWith(extras.devices), {
    runId,
    outDirectory: directory,
    nats: null,
    file,
  });
  const { recipe, place } = resolved.config;
  // What is wrong with it is said now and not after the training.
  if (place.temperatureFrom !== undefined) heldOutPredictions(place.temperatureFrom, recipe);
  return { directory, config: resolved.config, notes: [...notes, ...resolved.notes] };
}

/** One worker for each device that was named, else one for each core. */
function machineWith(devices: readonly string[]): MachineFacts {
  const facts = machineFacts();
  return devices.length === 1 && devices[0] === "cpu" ? facts : { ...facts, cores: devices.length };
}

/** Where a new run goes. @throws LockstepError LS_RUN_EXISTS (exit code 2) where a run is there already */
export function newRunDirectory(out: string | undefined, runId: string): string {
  const directory = resolve(out ?? join("runs", runId));
  if (!existsSync(join(directory, "config.json"))) return directory;
  throw new LockstepError("LS_RUN_EXISTS", `${directory} holds another run.`, {
    hint: `Give another directory with --out, or go on with it: npx lockstep resume ${directory}`,
    exitCode: 2,
  });
}

/** A run's directory by its path, or by its id below runs/. */
export function runDirectory(run: string): string {
  const candidates = [resolve(run), resolve("runs", run)];
  return candidates.find((directory) => existsSync(join(directory, "config.json"))) ?? candidates[0]!;
}

/** @throws LockstepError LS_RUN_CONFIG */
export function readRunConfig(directory: string): Config {
  const file = join(directory, "config.json");
  try {
    return configSchema.parse(JSON.parse(readFileSync(file, "utf8")));
  } catch (cause) {
    throw new LockstepError("LS_RUN_CONFIG", `${file} is missing or does not fit this version.`, {
      hint: "Give the directory of a run that `npx lockstep up` made.",
      exitCode: 2,
      cause,
    });
  }
}

/** Writes config.json, with the address of NATS, and makes the directories of the run's parts. */
export function writeConfig(directory: string, config: Config): void {
  mkdirSync(join(directory, "logs"), { recursive: true });
  const file = join(directory, "config.json");
  writeFileSync(`${file}.partial`, `${JSON.stringify(config, null, 2)}\n`);
  renameSync(`${file}.partial`, file);
}

async function factsOfData(
  option: string | undefined,
  part: TrainingPart | null,
  demo: boolean,
  signal: AbortSignal,
): Promise<{ readonly data: DatasetFacts; readonly notes: readonly string[] }> {
  const { directory, notes } = await dataDirectory(option, demo, signal);
  const dataset = openDataset(directory, part);
  try {
    return { data: await datasetFacts(dataset), notes };
  } finally {
    dataset.close();
  }
}

async function dataDirectory(option: string | undefined, demo: boolean, signal: AbortSignal) {
  const display = new FetchDisplay(process.stderr);
  try {
    const { directory } = await obtainDataDirectory({
      option,
      signal,
      onProgress: (progress) => display.progress(progress),
      onMessage: (message) => display.message(message),
    });
    return { directory, notes: [] };
  } catch (error) {
    const unreachable = error instanceof LockstepError && error.code.startsWith("LS_FETCH");
    if (!demo || !unreachable || signal.aborted) throw error;
    const note = `STL-10 cannot be fetched (${sentenceOf(error)}); the demo goes on with a generated set.`;
    return { directory: await ensureSynthetic(cacheDirectory()), notes: [note] };
  } finally {
    display.end();
  }
}
