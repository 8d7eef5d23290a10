import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { openDataset } from "../../shared/data/dataset.ts";
import type { Checkpoint } from "./checkpoint.ts";
import { type EventFact, readLines, stepFacts } from "./history.ts";
import { type PoolResult, predictAll } from "./predict-pool.ts";
import { mergePredictions, type Predictions } from "./predictions.ts";
import { buildReport, type ReportFacts, type ReportOutput } from "./report.ts";

export interface EvaluateOptions {
  readonly checkpoint: Checkpoint;
  readonly dataDirectory: string;
  /** Where the report goes. */
  readonly outDirectory: string;
  readonly processes: number;
  readonly devices: readonly string[];
  /** Path of the built predict-main.js. */
  readonly program: string;
  /** The run's history, of which the report tells. */
  readonly events: readonly EventFact[];
  readonly signal: AbortSignal;
  readonly onProgress?: (done: number, images: number) => void;
}

export interface Evaluated {
  readonly report: ReportOutput;
  readonly predictions: Predictions;
  readonly pool: PoolResult;
  readonly seconds: number;
}

/** Images in a batch where no run says how many. */
const BATCH = 100;

/**
 * Evaluates one checkpoint on a data set and writes its report, without a cluster: the same batches as in the run, hence the
 * same bits.
 * @throws LockstepError of the data set, the checkpoint, or the processes that predict
 */
export async function evaluateCheckpoint(options: EvaluateOptions): Promise<Evaluated> {
  const { checkpoint, dataDirectory, outDirectory, processes, devices, program, signal, onProgress } = options;
  const { config, run, step } = checkpoint;
  const dataset = openDataset(dataDirectory);
  try {
    const started = performance.now();
    const images = dataset.test.count;
    const size = config?.place.evaluation?.batch ?? BATCH;
    const progress = (done: number) => onProgress?.(done, images);
    const work = { checkpoint, dataDirectory, images, size, processes, devices, program, signal };
    const pool = await predictAll({ ...work, onProgress: progress });
    const predictions = mergePredictions(pool.batches, dataset.test.labels);
    const seconds = (performance.now() - started) / 1000;
    const steps = run === null ? [] : stepFacts(readLines(join(run, "steps.ndjson")));
    const report = await buildReport({
      predictions,
      images: dataset.test,
      classNames: dataset.classNames,
      config,
      facts: { ...factsOf(checkpoint, pool), evaluationSeconds: seconds },
      steps: step === null ? steps : steps.filter((fact) => fact.step <= step),
      events: options.events,
      outDirectory,
    });
    return { report, predictions, pool, seconds };
  } finally {
    dataset.close();
  }
}

/** What summary.json says, where it speaks of this very step; else what the config says. */
function factsOf({ run, config, step, name }: Checkpoint, { parameters, weightBytes }: PoolResult): ReportFacts {
  const file = run === null ? null : join(run, "summary.json");
  if (file !== null && existsSync(file)) {
    const summary = JSON.parse(readFileSync(file, "utf8")) as ReportFacts;
    if (step === null || summary.steps === step) return { ...summary, parameters, modelBytes: weightBytes };
  }
  const recipe = config?.recipe;
  return {
    run: config?.runId ?? name,
    model: recipe?.model.name ?? null,
    recipe: recipe?.recipe ?? null,
    seed: recipe?.seed ?? null,
    shards: recipe?.shards ?? null,
    steps: step,
    epochs: recipe === undefined || step === null ? null : step / recipe.stepsPerEpoch,
    parameters,
    modelBytes: weightBytes,
  };
}
