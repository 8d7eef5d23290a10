import type { Config } from "../shared/config/schema.ts";
import { idsDigest } from "../shared/plan/digest.ts";
import type { Plan } from "../shared/plan/plan.ts";
import type { ModelFacts } from "../shared/protocol/messages.ts";
import type { DurableRecord } from "./records/record.ts";

/** summary.json as the coordinator can write it; the evaluator adds accuracy and the exported model's figures. */
export interface Summary {
  readonly run: string;
  readonly outcome: string;
  readonly model: string;
  readonly recipe: string;
  readonly seed: number;
  readonly shards: number;
  readonly workers: number;
  readonly steps: number;
  readonly epochs: number;
  readonly imagesPerSecond: number | null;
  readonly wallSeconds: number;
  readonly evaluationSeconds: number | null;
  readonly weightsSha256: string | null;
  readonly stateSha256: string | null;
  readonly lineage: string;
  readonly reproducible: boolean;
  readonly reproducibleReason: string;
  readonly parameters: number;
  readonly modelBytes: number | null;
  readonly accuracy: null;
  readonly testImages: number;
  readonly views: number;
  readonly failuresSurvived: number;
  readonly samplesPerEpochExact: boolean;
}

export interface SummaryParts {
  readonly config: Config;
  readonly plan: Plan;
  readonly records: Iterable<DurableRecord>;
  readonly outcome: string;
  readonly facts: ModelFacts | null;
  readonly failures: number;
  readonly stateSha256: string | null;
  readonly startedAt: number;
  readonly endedAt: number;
  readonly testImages: number;
}

/** Pure: folds the records into the summary. Times in milliseconds since the epoch. */
export function summarize(parts: SummaryParts): Summary {
  const { config, plan } = parts;
  const { recipe } = config;
  let steps = 0;
  let lineage = "";
  let exact = true;
  let views = 0;
  let workers = 0;
  let images = 0;
  let firstFinal: number | null = null;
  let lastFinal: number | null = null;
  for (const record of parts.records) {
    if (record.kind === "start") {
      images = 0;
      firstFinal = null;
    } else if (record.kind === "truncate") {
      steps = record.tip.step;
    } else if (record.kind === "view") {
      views += 1;
      workers = Math.max(workers, record.view.members.length);
    } else if (record.kind === "final") {
      const { entry, time } = record;
      exact &&= entry.step === steps && isExact(plan, entry.step, entry.shards);
      steps = entry.step + 1;
      lineage = entry.lineage;
      if (firstFinal === null) firstFinal = time;
      else images += entry.shards.reduce((sum, shard) => sum + shard.samples, 0);
      lastFinal = time;
    }
  }
  const seconds = firstFinal === null || lastFinal === null ? 0 : (lastFinal - firstFinal) / 1000;
  return {
    run: config.runId,
    outcome: parts.outcome,
    model: recipe.model.name,
    recipe: recipe.recipe,
    seed: recipe.seed,
    shards: recipe.shards,
    workers,
    steps,
    epochs: steps / recipe.stepsPerEpoch,
    imagesPerSecond: seconds > 0 ? images / seconds : null,
    wallSeconds: (parts.endedAt - parts.startedAt) / 1000,
    evaluationSeconds: null,
    weightsSha256: null,
    stateSha256: parts.stateSha256,
    lineage,
    reproducible: true,
    reproducibleReason: `deterministic kernels, ${recipe.precision}, ${recipe.execution} execution, fixed sums over ${recipe.shards} shards; workers of equal fingerprint`,
    parameters: parts.facts?.parameters ?? 0,
    modelBytes: null,
    accuracy: null,
    testImages: parts.testImages,
    views,
    failuresSurvived: parts.failures,
    samplesPerEpochExact: exact,
  };
}

/** Did every shard feed exactly the samples that the plan gives it, in order? */
function isExact(plan: Plan, step: number, shards: readonly { readonly shard: number; readonly idsDigest: string }[]): boolean {
  if (shards.length !== plan.shards) return false;
  return shards.every((record, shard) => record.shard === shard && record.idsDigest === idsDigest(plan.microBatch(step, shard)));
}
