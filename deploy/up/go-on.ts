import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { readConfigFile } from "../../shared/config/files.ts";
import { type RunOptions, usage } from "../../shared/config/options.ts";
import { builtProgram } from "./built.ts";
import { concludeRun } from "./conclusion.ts";
import type { RunSummary } from "./final-text.ts";
import { Interrupts } from "./interrupts.ts";
import { readRunConfig } from "./prepare.ts";
import { prepareResume } from "./prepare-resume.ts";
import { Reaper } from "./reaper.ts";
import { lockRun } from "./run-lock.ts";
import { readSummary } from "./runs.ts";
import { printJson, type UpOptions, up } from "./up.ts";

/** What one life of a run leaves to the next; `unconcluded`: trained to its end, and model or report are missing. */
export type LeftOver = "unfinished" | "unconcluded" | "done";

/** @param evaluates whether a report belongs to the run's end */
export function leftOver(summary: RunSummary | null, evaluates: boolean): LeftOver {
  if (summary === null || summary.outcome !== "done") return "unfinished";
  const concluded = summary.weightsSha256 !== null && (!evaluates || summary.accuracy !== null);
  return concluded ? "done" : "unconcluded";
}

/**
 * `up --continue`: goes on with the run in --out, so that one command serves the first start and every later one.
 * @returns its exit code, 0 for a run that has reached its end; null where there is no run yet
 * @throws LockstepError LS_USAGE without --out, and what `resume` throws
 */
export async function goOn(options: RunOptions, here: Omit<UpOptions, "resumed">): Promise<number | null> {
  const out = options.out ?? (options.config === undefined ? undefined : readConfigFile(options.config).options.out);
  if (out === undefined) throw usage("--continue needs --out: the directory of the run that is to go on.");
  const directory = resolve(out);
  if (!existsSync(join(directory, "config.json"))) return null;
  const { recipe, place } = readRunConfig(directory);
  const kind = leftOver(readSummary(directory), place.evaluation !== null);
  if (kind !== "unfinished") {
    const code = kind === "unconcluded" ? await concludeAgain(directory) : 0;
    if (kind === "done") process.stderr.write(`The run in ${directory} has reached its end.\n`);
    if (here.json && code === 0) printJson({ type: "summary", ...readSummary(directory) });
    return code;
  }
  const { out: _, recipe: named, ...rest } = options;
  // The same recipe by name is this run's own, whatever another machine would make of its "auto".
  const same = named === undefined || named === recipe.recipe;
  const given = same ? rest : { ...rest, recipe: named };
  return up(() => prepareResume(directory, given, false, here.network), { ...here, resumed: true });
}

/** Model and report of a run whose end was cut off. @throws LockstepError LS_CONCLUSION, LS_RUN_LOCKED */
async function concludeAgain(directory: string): Promise<number> {
  const note = (text: string) => void process.stderr.write(`${text}\n`);
  note(`The run in ${directory} is trained; writing its model and report.`);
  const interrupts = new Interrupts();
  const reaper = new Reaper();
  const unlock = await lockRun(directory, () => interrupts.first.abort(), note);
  try {
    const program = [process.execPath, builtProgram("deploy/up/conclude-main.js")];
    await concludeRun({ directory, program, signal: interrupts.first.signal }, reaper);
    return 0;
  } catch (error) {
    if (!interrupts.any) throw error;
    return 130;
  } finally {
    await unlock();
    reaper.close();
    interrupts.close();
  }
}
