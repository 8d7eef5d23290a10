import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { LockstepError } from "../../shared/errors.ts";
import { Child } from "./child.ts";
import { describeEnd } from "./exit-meaning.ts";
import { type RunSummary, summarySchema } from "./final-text.ts";
import type { GroupWatch } from "./reaper.ts";

export interface EvaluationOptions {
  readonly directory: string;
  /** Program and first arguments of the evaluator; --run DIRECTORY is added. */
  readonly program: readonly string[];
  readonly signal: AbortSignal;
}

/**
 * Runs the evaluator on what a finished run left: it writes report/ and model/ and adds its figures to summary.json.
 * @throws LockstepError LS_EVALUATION where it fails; the run itself is whole then.
 */
export async function evaluateRun(
  { directory, program, signal }: EvaluationOptions,
  groups: GroupWatch,
): Promise<RunSummary> {
  const logFile = join(directory, "logs", "evaluator.log");
  const command = () => [...program, "--run", directory];
  const child = new Child({ name: "evaluator", command, env: {}, logFile }, 0, groups);
  const kill = () => void child.stop(1000);
  signal.addEventListener("abort", kill);
  const end = await child.ended;
  signal.removeEventListener("abort", kill);
  if (end.code !== 0) {
    const words = child.lastWords();
    throw new LockstepError("LS_EVALUATION", `The evaluation failed: ${words ?? describeEnd(end)}`, {
      hint: `The run is whole; evaluate it again with: npx lockstep evaluate ${directory}. Log: ${logFile}.`,
    });
  }
  return summarySchema.parse(JSON.parse(readFileSync(join(directory, "summary.json"), "utf8")));
}

/** Path of a run's report.html, null where there is none. */
export function reportOf(directory: string): string | null {
  const file = join(directory, "report", "report.html");
  return existsSync(file) ? file : null;
}
