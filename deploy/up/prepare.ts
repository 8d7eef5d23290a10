import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { type DatasetFacts, datasetFacts, machineFacts } from "../../shared/config/facts.ts";
import { readConfigFile } from "../../shared/config/files.ts";
import type { RunOptions } from "../../shared/config/options.ts";
import { resolveConfig } from "../../shared/config/resolve.ts";
import { type Config, configSchema, type Place } from "../../shared/config/schema.ts";
import { openDataset, trainingSha256 } from "../../shared/data/dataset.ts";
import { LockstepError, sentenceOf } from "../../shared/errors.ts";
import { requireLoopback } from "../../shared/process/loopback.ts";
import { cacheDirectory, ensureSynthetic, obtainDataDirectory } from "../data/locations.ts";
import { FetchDisplay } from "../data/progress.ts";

/** Everything that stands in config.json before the first process starts, except the address of NATS. */
export interface PreparedRun {
  readonly directory: string;
  readonly config: Config;
  /** Sentences for people. */
  readonly notes: readonly string[];
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
  extras: { readonly demo: boolean; readonly insecure: boolean },
  signal: AbortSignal,
): Promise<PreparedRun> {
  const file = options.config === undefined ? null : readConfigFile(options.config);
  const runId = newRunId(new Date());
  const directory = resolve(options.out ?? file?.options.out ?? join("runs", runId));
  if (existsSync(join(directory, "config.json"))) {
    throw new LockstepError("LS_RUN_EXISTS", `${directory} holds another run.`, {
      hint: `Give another directory with --out, or go on with it: npx lockstep resume ${directory}`,
      exitCode: 2,
    });
  }
  // The address is refused before anything is fetched.
  requireLoopback(options.listen ?? "127.0.0.1", extras.insecure);
  const { data, notes } = await factsOfData(options.data ?? file?.options.data, extras.demo, signal);
  const resolved = resolveConfig(options, data, machineFacts(), { runId, outDirectory: directory, nats: null, file });
  return { directory, config: resolved.config, notes: [...notes, ...resolved.notes] };
}

/** What may change when a run goes on: its place. */
export interface ResumeOptions {
  readonly workers?: number | undefined;
  readonly minWorkers?: number | undefined;
  readonly data?: string | undefined;
}

/**
 * A run that goes on. Its recipe stays as it is.
 * @throws LockstepError LS_RUN_CONFIG, LS_RUN_FINISHED or LS_CONFIG_DATA (exit code 2).
 */
export async function prepareResume(run: string, options: ResumeOptions): Promise<PreparedRun> {
  const directory = runDirectory(run);
  const before = readRunConfig(directory);
  if (outcomeOf(directory) === "done") {
    throw new LockstepError("LS_RUN_FINISHED", `The run in ${directory} has reached its end.`, {
      hint: "See its summary with `npx lockstep status`; a longer run is a new one.",
      exitCode: 2,
    });
  }
  const workers = options.workers ?? before.place.workers;
  const place: Place = {
    ...before.place,
    workers,
    minWorkers: Math.min(options.minWorkers ?? before.place.minWorkers, workers),
    dataDirectory: resolve(options.data ?? before.place.dataDirectory),
    outDirectory: directory,
  };
  openDataset(place.dataDirectory).close();
  if ((await trainingSha256(place.dataDirectory)) !== before.recipe.data.sha256) {
    throw new LockstepError(
      "LS_CONFIG_DATA",
      `${place.dataDirectory} holds other training data than this run began with.`,
      {
        hint: "Give the run's data set with --data.",
        exitCode: 2,
      },
    );
  }
  return { directory, config: { ...before, place }, notes: [] };
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

function outcomeOf(directory: string): string | null {
  try {
    const summary = JSON.parse(readFileSync(join(directory, "summary.json"), "utf8")) as { readonly outcome?: unknown };
    return typeof summary.outcome === "string" ? summary.outcome : null;
  } catch {
    return null;
  }
}

async function factsOfData(
  option: string | undefined,
  demo: boolean,
  signal: AbortSignal,
): Promise<{ readonly data: DatasetFacts; readonly notes: readonly string[] }> {
  const { directory, notes } = await dataDirectory(option, demo, signal);
  const dataset = openDataset(directory);
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
