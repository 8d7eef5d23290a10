import { existsSync } from "node:fs";
import { basename, join } from "node:path";
import type { CheckpointRecord, RecordOf } from "../../coordinator/records/record.ts";
import { readRecords } from "../../coordinator/records/term-files.ts";
import type { Config } from "../../shared/config/schema.ts";
import { readLines } from "../../shared/data/json-lines.ts";
import { LockstepError } from "../../shared/errors.ts";
import { readRunConfig, runDirectory } from "../up/prepare.ts";
import { readSummary } from "../up/runs.ts";

/** What two runs are compared by, of one final step. */
export interface StepFacts {
  readonly lineage: string;
  /** Hash of the state after the step; empty where it was not recorded. */
  readonly stateHash: string;
  /** Digests of all shards, 16 hex digits each, one after the other. */
  readonly ids: string;
  readonly gradients: string;
  readonly samples: readonly number[];
  /** Incarnations and how many shards each computed, in shard order. */
  readonly by: readonly (readonly [string, number])[];
  readonly applied: boolean;
}

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
  const steps: StepFacts[] = [];
  let checkpoints: CheckpointRecord[] = [];
  let first: RecordOf<"first"> | null = null as RecordOf<"first"> | null;
  for (const record of readRecords(join(directory, "records"))) {
    if (record.kind === "first") first = record;
    else if (record.kind === "final") {
      // A fork's own steps begin where its parent's ended.
      if (steps.length === 0 && record.step > 0) throw forked(directory);
      steps.length = Math.min(steps.length, record.step);
      steps.push(factsOf(record));
    } else if (record.kind === "truncate") {
      steps.length = Math.min(steps.length, record.tip.step);
      checkpoints = checkpoints.filter(({ tip }) => tip.step <= record.tip.step);
    } else if (record.kind === "checkpoint") {
      checkpoints = [...checkpoints.filter(({ tip }) => tip.step !== record.tip.step), record];
    }
  }
  if (first === null && steps.length === 0) throw empty(directory);
  const summary = readSummary(directory);
  return {
    directory,
    name: basename(directory),
    config,
    fingerprint: first?.fingerprint ?? null,
    root: first?.root ?? null,
    steps,
    checkpoints: checkpoints.filter(({ file }) => existsSync(join(directory, "checkpoints", file))),
    workers: workerNames(directory),
    outcome: summary?.outcome ?? null,
    weightsSha256: summary?.weightsSha256 ?? null,
    stateSha256: summary?.stateSha256 ?? null,
  };
}

const factsOf = (record: RecordOf<"final">): StepFacts => ({
  lineage: record.lineage,
  stateHash: record.state,
  ids: record.ids,
  gradients: record.gradients,
  samples: record.samples,
  by: record.by,
  applied: record.applied,
});

/** The digest of one shard in a string of all of them. */
export const digestOf = (digests: string, shard: number): string => digests.slice(16 * shard, 16 * shard + 16);

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
