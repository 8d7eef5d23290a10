import { existsSync } from "node:fs";
import { join } from "node:path";
import { REQUIRED_FILES, STL10_FOLDER } from "../../shared/data/stl10.ts";
import { cacheDirectory } from "../../shared/process/cache.ts";
import { type FetchOptions, fetchStl10, isComplete } from "./fetch.ts";
import { type SyntheticOptions, writeSynthetic } from "./synthetic.ts";

export { cacheDirectory } from "../../shared/process/cache.ts";

/** Where the official data set lies in the cache. */
export const cachedStl10 = (cache: string): string => join(cache, "data", STL10_FOLDER);

/** Where a data set comes from; `archive`: from nowhere yet, `directory` is where a fetch would put it. */
export interface DataLocation {
  readonly directory: string;
  readonly source: "option" | "environment" | "cache" | "archive";
}

export interface LocationOptions {
  /** The value of --data. */
  readonly option?: string | undefined;
  readonly cache?: string;
  readonly env?: NodeJS.ProcessEnv;
}

/** Chooses the data set: --data, else LOCKSTEP_DATA, else the cache, else the official archive. */
export async function resolveDataDirectory(options: LocationOptions = {}): Promise<DataLocation> {
  const { option, env = process.env, cache = cacheDirectory(env) } = options;
  if (option) return { directory: inner(option), source: "option" };
  if (env.LOCKSTEP_DATA) return { directory: inner(env.LOCKSTEP_DATA), source: "environment" };
  const directory = cachedStl10(cache);
  return { directory, source: (await isComplete(directory)) ? "cache" : "archive" };
}

/**
 * The directory of the data set to use, fetched if it has to be.
 * @throws LockstepError LS_FETCH_* and others of fetchStl10.
 */
export async function obtainDataDirectory(
  options: LocationOptions & Omit<FetchOptions, "directory"> = {},
): Promise<DataLocation> {
  const location = await resolveDataDirectory(options);
  if (location.source === "archive") await fetchStl10({ ...options, directory: location.directory });
  return location;
}

/** The generated set for runs without network, made once and kept in the cache. */
export async function ensureSynthetic(cache: string, options: SyntheticOptions = {}): Promise<string> {
  const { train = 1000, test = 500, classes = 10, side = 96, seed = 1 } = options;
  const directory = join(cache, "data", `synthetic-1-${train}-${test}-${classes}-${side}-${seed}`);
  if (!existsSync(directory)) await writeSynthetic(directory, { ...options, train, test, classes, side, seed });
  return directory;
}

/** A directory that only holds the archive's own folder stands for that folder. */
function inner(directory: string): string {
  const below = join(directory, STL10_FOLDER);
  const hasFiles = (folder: string) => REQUIRED_FILES.some((name) => existsSync(join(folder, name)));
  return !hasFiles(directory) && hasFiles(below) ? below : directory;
}
