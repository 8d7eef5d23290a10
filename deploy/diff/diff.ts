import { type FirstDifference, firstDifference } from "./compare.ts";
import { type ConfigDifference, configDifferences } from "./config-differences.ts";
import { type ExplainOptions, type Explanation, explain } from "./explain.ts";
import { type RunHistory, workerOf } from "./run-history.ts";
import { type Verdict, verdictOf } from "./verdict.ts";

interface Pair<T> {
  readonly a: T;
  readonly b: T;
}

/** What `lockstep diff --json` prints of two runs. */
export interface DiffResult {
  readonly runs: Pair<{ readonly directory: string; readonly run: string; readonly outcome: string | null }>;
  /** Same number of steps, and all of them with the same bits. */
  readonly equal: boolean;
  /** Entries of the recipe part that differ. */
  readonly config: readonly ConfigDifference[];
  readonly data: Pair<string> & { readonly equal: boolean };
  readonly fingerprint: Pair<readonly string[] | null> & { readonly equal: boolean };
  /** Final steps of each, and how many of them are equal from the start on. */
  readonly steps: Pair<number> & { readonly common: number };
  /** At the end of each run; null where it is not known. Weights are the exported model's. */
  readonly hashes: {
    readonly weights: Pair<string | null>;
    readonly state: Pair<string | null>;
    readonly lineage: Pair<string | null>;
  };
  /** Of the lineages after the equal steps. */
  readonly lineageEqual: boolean;
  readonly first: (FirstDifference & { readonly epoch: number; readonly workers: Pair<string> | null }) | null;
  /** Null without a difference, with different numbers of shards, or where no replay was wanted. */
  readonly explanation: Explanation | null;
  readonly verdict: Verdict | null;
}

/**
 * Compares two runs by their records, then does the step where they part again.
 * @param options null: nothing is replayed
 */
export async function diffRuns(a: RunHistory, b: RunHistory, options: ExplainOptions | null): Promise<DiffResult> {
  const first = firstDifference(a, b);
  const workers = first && workersOf(a, b, first);
  const steps = {
    a: a.steps.length,
    b: b.steps.length,
    common: first?.step ?? Math.min(a.steps.length, b.steps.length),
  };
  const lineage = { a: a.steps.at(-1)?.lineage ?? a.root, b: b.steps.at(-1)?.lineage ?? b.root };
  const weights = { a: a.weightsSha256, b: b.weightsSha256 };
  const contrary = steps.a === steps.b && weights.a !== null && weights.b !== null && weights.a !== weights.b;
  const explanation =
    first === null || options === null || first.kind === "shards" ? null : await explain(a, b, first, options);
  return {
    runs: { a: identityOf(a), b: identityOf(b) },
    equal: first === null && steps.a === steps.b && !contrary,
    config: configDifferences(a.config.recipe, b.config.recipe, "recipe"),
    data: pairOf(a, b, ({ config }) => config.recipe.data.sha256),
    fingerprint: pairOf(a, b, ({ fingerprint }) => fingerprint),
    steps,
    hashes: { weights, state: { a: a.stateSha256, b: b.stateSha256 }, lineage },
    lineageEqual: lineageAt(a, steps.common) === lineageAt(b, steps.common),
    first: first && { ...first, epoch: epochOf(a, first.step), workers },
    explanation,
    verdict: first === null || explanation === null ? null : verdictOf(first, explanation, workers),
  };
}

function pairOf<T>(a: RunHistory, b: RunHistory, of: (run: RunHistory) => T) {
  const pair = { a: of(a), b: of(b) };
  return { ...pair, equal: JSON.stringify(pair.a) === JSON.stringify(pair.b) };
}

const lineageAt = ({ steps, root }: RunHistory, count: number) => steps[count - 1]?.lineage ?? root;
const identityOf = ({ directory, config, outcome }: RunHistory) => ({ directory, run: config.runId, outcome });
const epochOf = ({ config }: RunHistory, step: number) => Math.floor(step / config.recipe.stepsPerEpoch);

const workersOf = (a: RunHistory, b: RunHistory, { step, shard }: FirstDifference): Pair<string> | null =>
  shard === null ? null : { a: workerOf(a, step, shard), b: workerOf(b, step, shard) };
