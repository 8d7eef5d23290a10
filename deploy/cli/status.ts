import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Command } from "commander";
import { LockstepError } from "../../shared/errors.ts";
import { reportOf } from "../up/conclusion.ts";
import { finalText, resumeLine, summarySchema } from "../up/final-text.ts";
import { runDirectory } from "../up/prepare.ts";
import { Probe } from "../up/probe.ts";
import { runView } from "../up/progress-view.ts";
import { latestRun } from "../up/runs.ts";

/** Adds `lockstep status [RUN or ADDRESS]`. */
export function registerStatus(program: Command): void {
  program
    .command("status")
    .description("where a run stands, or how it ended")
    .argument(
      "[run]",
      "the run's directory, its id, or host:port of its coordinator (default: the newest run below runs/)",
    )
    .option("--json", "print one JSON object on stdout", false)
    .action(async (run: string | undefined, { json }: { json: boolean }) => status(run, json));
}

async function status(run: string | undefined, json: boolean): Promise<void> {
  const print = (value: object, lines: readonly string[]) =>
    void process.stdout.write(`${json ? JSON.stringify(value) : lines.join("\n")}\n`);
  const isAddress = run !== undefined && /^[^/]+:\d+$/.test(run) && !existsSync(run);
  const directory = isAddress ? null : run === undefined ? latestRun() : runDirectory(run);
  const probe = directory === null ? Probe.ofAddress(run!) : Probe.ofDirectory(directory, runIdOf(directory));
  try {
    const live = await probe.status();
    if (live !== null)
      return print(live, [`run ${live.run}`, ...runView(live, { width: process.stdout.columns ?? 120 })]);
  } finally {
    probe.close();
  }
  if (directory === null) {
    throw new LockstepError("LS_NO_ANSWER", `No coordinator answers at ${run}.`, {
      hint: "Give the address from the run's endpoints.json, or its directory.",
    });
  }
  const file = join(directory, "summary.json");
  if (!existsSync(file)) {
    throw new LockstepError("LS_NOT_RUNNING", `The run in ${directory} is not running and has not ended.`, {
      hint: resumeLine(directory),
    });
  }
  const whole: unknown = JSON.parse(readFileSync(file, "utf8"));
  const summary = summarySchema.parse(whole);
  const failed = summary.outcome === "failed" ? [`${summary.message ?? ""} [${summary.code ?? "LS_FAILED"}]`] : [];
  const report = summary.accuracy === null ? null : reportOf(directory);
  const more = summary.outcome === "done" ? [] : [resumeLine(directory)];
  print(whole as object, [`run ${summary.run} ${summary.outcome}`, ...failed, ...finalText(summary, report), ...more]);
}

/** @throws LockstepError LS_RUN_CONFIG */
function runIdOf(directory: string): string {
  try {
    return (JSON.parse(readFileSync(join(directory, "config.json"), "utf8")) as { runId: string }).runId;
  } catch (cause) {
    throw new LockstepError("LS_RUN_CONFIG", `There is no run in ${directory}.`, {
      hint: "Give the directory of a run that `npx lockstep up` made.",
      exitCode: 2,
      cause,
    });
  }
}
