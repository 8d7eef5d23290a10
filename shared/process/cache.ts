import envPaths from "env-paths";

/** The user's cache, which all clones share: LOCKSTEP_CACHE, else the system's place for caches. */
export function cacheDirectory(env: NodeJS.ProcessEnv = process.env): string {
  return env.LOCKSTEP_CACHE || envPaths("lockstep", { suffix: "" }).cache;
}
