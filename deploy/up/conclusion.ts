import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { LockstepError } from "../../shared/errors.ts";
import { Child } from "./child.ts";
import { describeEnd } from "./exit-meaning.ts";
import { type RunSummary, summarySchema } from "./final-text.ts";
import type { GroupWatch } from "./reaper.ts";

export interface ConclusionOptions {
  readonly directory: string;
  /** Program and first arguments; --run DIRECTORY is added. */
  readonly program: readonly string[];
  readonly signal: AbortSignal;
}

/**
 * Has model/ and report/ written from what a finished run left, and its figures added to summary.json, in a process of its
 * own: TensorFlow and the pictures need memory that this one gives back at once.
 * @throws LockstepError LS_CONCLUSION where it fails; the run itself is whole then.
 */
export async function concludeRun(
  { directory, program, signal }: ConclusionOptions,
  groups: GroupWatch,
): Promise<RunSummary> {
  const logFile = join(directory, "logs", "conclusion.log");
  const command = () => [...program, "--run", directory];
  const child = new Child({ name: "conclusion", command, env: {}, logFile }, 0, groups);
  const kill = () => void child.stop(1000);
  signal.addEventListener("abort", kill);
  const end = await child.ended;
  signal.removeEventListener("abort", kill);
  if (end.code !== 0) {
    const words = child.lastWords();
    throw new LockstepError("LS_CONCLUSION", `Model or report could not be written: ${words ?? describeEnd(end)}`, {
      hint: `The training itself is whole. Log: ${logFile}.`,
    });
  }
  return summarySchema.parse(JSON.parse(readFileSync(join(directory, "summary.json"), "utf8")));
}

/** Path of a run's report.html, null where there is none. */
export function reportOf(directory: string): string | null {
  const file = join(directory, "report", "report.html");
  return existsSync(file) ? file : null;
}
