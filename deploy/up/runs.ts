import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { LockstepError } from "../../shared/errors.ts";
import { type RunSummary, summarySchema } from "./final-text.ts";

/**
 * The run below runs/ whose config was written last.
 * @throws LockstepError LS_NO_RUN (exit code 2) where there is none.
 */
export function latestRun(root = resolve("runs")): string {
  const names = existsSync(root) ? readdirSync(root) : [];
  const runs = names
    .map((name) => join(root, name))
    .filter((directory) => existsSync(join(directory, "config.json")))
    .map((directory) => ({ directory, at: statSync(join(directory, "config.json")).mtimeMs }))
    .sort((a, b) => b.at - a.at);
  if (runs[0] !== undefined) return runs[0].directory;
  throw new LockstepError("LS_NO_RUN", `There is no run below ${root}.`, {
    hint: "Give a run's directory, or start one with `npx lockstep up`.",
    exitCode: 2,
  });
}

/** A run's summary.json; null while it has none that can be read. */
export function readSummary(directory: string): RunSummary | null {
  try {
    return summarySchema.parse(JSON.parse(readFileSync(join(directory, "summary.json"), "utf8")));
  } catch {
    return null;
  }
}

/** The link by which other machines join a secured run; null where there is none, or it is not for us to read. */
export function readJoinLink(directory: string): string | null {
  try {
    return readFileSync(join(directory, "security", "join"), "utf8").trim();
  } catch {
    return null;
  }
}
