import { existsSync } from "node:fs";
import { basename, join } from "node:path";
import { foldHistory } from "../../coordinator/records/history.ts";
import type { CheckpointRecord, DurableRecord, RecordOf } from "../../coordinator/records/record.ts";
import { readRecords } from "../../coordinator/records/term-files.ts";
import type { Config } from "../../shared/config/schema.ts";
import { readLines } from "../../shared/data/json-lines.ts";
import { LockstepError } from "../../shared/errors.ts";
import { readRunConfig, runDirectory } from "../up/prepare.ts";
import { readSummary } from "../up/runs.ts";

/** What two runs are compared by, of one final step. */
export type StepFacts = Pick<
  RecordOf<"final">,
  "lineage" | "state" | "ids" | "gradients" | "samples" | "by" | "applied"
>;

/** A run as its directory tells it: finished, interrupted, or still going on. */
export interface RunHistory {
  readonly directory: string;
  readonly name: string;
  readonly config: Config;
  /** Null before the first worker was ready. */
  readonly fingerprint: readonly string[] | null;
  readonly root: string | null;
  /** Final steps of the surviving line, from 0 on. */
  readonly steps: readonly StepFacts[];
  /** Recorded checkpoints of that line whose files are there, oldest first. */
  readonly checkpoints: readonly CheckpointRecord[];
  readonly outcome: string | null;
  readonly weightsSha256: string | null;
  readonly stateSha256: string | null;
  /** Names of the workers by incarnation. */
  readonly workers: ReadonlyMap<string, string>;
}

/**
 * Reads a run's records without taking part in it.
 * @param given the run's directory, or its id below runs/
 * @throws LockstepError LS_RUN_CONFIG, LS_RECORDS_DAMAGED, LS_RECORDS_FORMAT, LS_DIFF_EMPTY (exit code 2) for a run that
 * has recorded nothing
 */
export function readRun(given: string): RunHistory {
  const directory = runDirectory(given);
  const config = readRunConfig(directory);
  const records = [...readRecords(join(directory, "records"))];
  const { checkpoints, fingerprint, root } = foldHistory(records);
  const steps = finalSteps(records, directory);
  if (fingerprint === null && steps.length === 0) throw empty(directory);
  const summary = readSummary(directory);
  return {
    directory,
    name: basename(directory),
    config,
    fingerprint,
    root,
    steps,
    checkpoints: checkpoints.filter(({ file }) => existsSync(join(directory, "checkpoints", file))),
    workers: workerNames(directory),
    outcome: summary?.outcome ?? null,
    weightsSha256: summary?.weightsSha256 ?? null,
    stateSha256: summary?.stateSha256 ?? null,
  };
}

/** @throws LockstepError LS_DIFF_FORK: a fork's own steps begin where its parent's ended */
function finalSteps(records: readonly DurableRecord[], directory: string): StepFacts[] {
  const steps: StepFacts[] = [];
  for (const record of records) {
    if (record.kind === "final") {
      if (steps.length === 0 && record.step > 0) throw forked(directory);
      steps.push(record);
    } else if (record.kind === "truncate") {
      steps.length = Math.min(steps.length, record.tip.step);
    }
  }
  return steps;
}

/** Who computed a shard in a step: the worker's name, or its incarnation where no event names it. */
export function workerOf({ steps, workers }: RunHistory, step: number, shard: number): string {
  let left = shard;
  for (const [incarnation, count] of steps[step]?.by ?? []) {
    if (left < count) return workers.get(incarnation) ?? incarnation;
    left -= count;
  }
  return "nobody";
}

function workerNames(directory: string): Map<string, string> {
  const names = new Map<string, string>();
  for (const line of readLines(join(directory, "events.ndjson"))) {
    const { worker, name } = line;
    if (typeof worker === "string" && typeof name === "string") names.set(worker, name);
  }
  return names;
}

const forked = (directory: string) =>
  new LockstepError("LS_DIFF_FORK", `The run in ${directory} is a fork: its first steps are another run's.`, {
    hint: "Compare the run that it was forked from.",
    exitCode: 2,
  });

const empty = (directory: string) =>
  new LockstepError("LS_DIFF_EMPTY", `The run in ${directory} has recorded nothing yet.`, {
    hint: "Compare runs that have trained.",
    exitCode: 2,
  });
