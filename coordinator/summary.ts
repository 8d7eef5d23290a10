import type { Config, Parent } from "../shared/config/schema.ts";
import { type EvaluatedOn, evaluatedOn } from "../shared/data/training-part.ts";
import type { Plan } from "../shared/plan/plan.ts";
import type { ModelFacts } from "../shared/protocol/messages.ts";
import { acceptStep, emptyLedger, isExact, truncateLedger } from "./ledger.ts";
import { type DurableRecord, entryOf } from "./records/record.ts";

/** summary.json as the coordinator can write it; the evaluator adds accuracy and the exported model's figures. */
export interface Summary {
  readonly run: string;
  /** The run whose state this one began with; null where it began with its own. */
  readonly parent: Parent | null;
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
  /** What the run was evaluated on. */
  readonly evaluatedOn: EvaluatedOn;
  readonly testImages: number;
  readonly views: number;
  readonly failuresSurvived: number;
  readonly samplesPerEpochExact: boolean;
  /** The first micro-batch whose samples were not the planned ones; null where all were. */
  readonly firstDifference: { readonly step: number; readonly shard: number } | null;
}

export interface SummaryParts {
  readonly config: Config;
  readonly plan: Plan;
  readonly records: Iterable<DurableRecord>;
  readonly outcome: string;
  readonly facts: Pick<ModelFacts, "parameters"> | null;
  readonly stateSha256: string | null;
  readonly startedAt: number;
  readonly endedAt: number;
  readonly testImages: number;
}

/** Pure: folds the records into the summary. Times in milliseconds since 1970. */
export function summarize(parts: SummaryParts): Summary {
  const { config, plan } = parts;
  const { recipe } = config;
  let ledger = emptyLedger;
  let root = "";
  let views = 0;
  let workers = 0;
  /** By the view in which a worker was lost, and its incarnation: two reigns may tell of one loss. */
  const losses = new Set<string>();
  let pace = null as Pace | null;
  for (const record of parts.records) {
    if (record.kind === "start") pace = null;
    else if (record.kind === "first") root = record.root;
    else if (record.kind === "truncate") ledger = truncateLedger(ledger, record.tip.step, record.tip.lineage);
    else if (record.kind === "loss") losses.add(`${views} ${record.worker}`);
    else if (record.kind === "view") {
      views += 1;
      workers = Math.max(workers, record.view.members.length);
    } else if (record.kind === "final") {
      ledger = acceptStep(ledger, entryOf(record), plan);
      const images = record.samples.reduce((sum, samples) => sum + samples, 0);
      // The first step only starts the clock: how long it took is not known.
      pace =
        pace === null
          ? { first: record.time, last: record.time, images: 0 }
          : { ...pace, last: record.time, images: pace.images + images };
    }
  }
  const seconds = pace === null ? 0 : (pace.last - pace.first) / 1000;
  const [difference] = ledger.differences;
  return {
    run: config.runId,
    parent: config.parent ?? null,
    outcome: parts.outcome,
    model: recipe.model.name,
    recipe: recipe.recipe,
    seed: recipe.seed,
    shards: recipe.shards,
    workers,
    steps: ledger.steps,
    epochs: ledger.steps / recipe.stepsPerEpoch,
    imagesPerSecond: pace !== null && seconds > 0 ? pace.images / seconds : null,
    wallSeconds: (parts.endedAt - parts.startedAt) / 1000,
    evaluationSeconds: null,
    weightsSha256: null,
    stateSha256: parts.stateSha256,
    lineage: ledger.steps === 0 ? root : ledger.lineage,
    reproducible: recipe.exchange !== "none",
    reproducibleReason:
      recipe.exchange === "none"
        ? NOT_TRAINED
        : `deterministic kernels, ${recipe.precision}, ${recipe.execution} execution, fixed sums over ${recipe.shards} shards; workers of equal fingerprint`,
    parameters: parts.facts?.parameters ?? 0,
    modelBytes: null,
    accuracy: null,
    evaluatedOn: evaluatedOn(recipe.trainingPart),
    testImages: parts.testImages,
    views,
    failuresSurvived: losses.size,
    samplesPerEpochExact: isExact(ledger),
    firstDifference: difference === undefined ? null : { step: difference.step, shard: difference.shard },
  };
}

const NOT_TRAINED = "--exchange none: gradients were thrown away, so that the weights are those of no training";

interface Pace {
  readonly first: number;
  readonly last: number;
  /** Images of the steps after the first. */
  readonly images: number;
}
