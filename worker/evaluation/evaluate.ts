import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { openDataset } from "../../shared/data/dataset.ts";
import type { Checkpoint } from "./checkpoint.ts";
import { drawImages, type Faithfulness, faithfulnessOf } from "./faithfulness/result.ts";
import { type EventFact, readLines, stepFacts } from "./history.ts";
import { type PictureChoice, writePictures } from "./picture-files.ts";
import { type PoolOptions, type PoolResult, predictTasks, runPool, type TaskResult } from "./predict-pool.ts";
import { mergePredictions, type Predictions } from "./predictions.ts";
import { buildReport, type ReportFacts, type ReportOutput } from "./report.ts";
import { writeTryPage } from "./try-page.ts";

export interface EvaluateOptions extends Omit<PoolOptions, "size" | "onResult"> {
  /** Where the report goes. */
  readonly outDirectory: string;
  /** Test images whose maps are examined; 0 for none. */
  readonly examined: number;
  /** A file of regions that people marked in the test images, or null. */
  readonly regions: string | null;
  /** Images that are also written as PNG files, with their maps. */
  readonly pictures: PictureChoice | null;
  /** The run's history, of which the report tells. */
  readonly events: readonly EventFact[];
  readonly onProgress?: (what: "predicted" | "examined", done: number, images: number) => void;
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
  const { checkpoint, dataDirectory, outDirectory, examined, onProgress } = options;
  const { config, run, step } = checkpoint;
  const dataset = openDataset(dataDirectory);
  try {
    const started = performance.now();
    const images = dataset.test.count;
    const size = config?.place.evaluation?.batch ?? BATCH;
    const drawn = drawImages(images, examined, config?.recipe.seed ?? 0);
    let [predicted, looked] = [0, 0];
    const onResult = (result: TaskResult) => {
      if (result.kind === "predicted") {
        predicted += result.batch.samples;
        onProgress?.("predicted", predicted, images);
      } else if (result.kind === "examined") {
        looked += 1;
        onProgress?.("examined", looked, drawn.all.length);
      }
    };
    const pool = await runPool({ ...options, size, onResult }, [...predictTasks(images, size), ...examineTasks(drawn)]);
    const predictions = mergePredictions(batchesOf(pool.results), dataset.test.labels);
    const seconds = (performance.now() - started) / 1000;
    const steps = run === null ? [] : stepFacts(readLines(join(run, "steps.ndjson")));
    const report = await buildReport({
      predictions,
      mapMethod: pool.mapMethod,
      faithfulness: faithfulnessIn(pool.results),
      regions: options.regions,
      images: dataset.test,
      classNames: dataset.classNames,
      config,
      facts: { ...factsOf(checkpoint, pool), evaluationSeconds: seconds },
      steps: step === null ? steps : steps.filter((fact) => fact.step <= step),
      events: options.events,
      outDirectory,
    });
    const exported = checkpoint.weights.kind === "model" ? checkpoint.weights.directory : run && join(run, "model");
    if (exported !== null && isExportOf(exported, checkpoint)) {
      writeTryPage(exported, config?.recipe.flipAveraging ?? false, outDirectory);
    }
    if (options.pictures !== null) {
      await writePictures(
        options.pictures,
        predictions,
        dataset.test,
        dataset.classNames,
        join(outDirectory, "pictures"),
      );
    }
    return { report, predictions, pool, seconds };
  } finally {
    dataset.close();
  }
}

/** Whether a model directory holds the very weights of a checkpoint: it was exported at the run's last step. */
function isExportOf(directory: string, { weights, run, step }: Checkpoint): boolean {
  if (weights.kind === "model") return true;
  const summary = run === null ? "" : join(run, "summary.json");
  if (!existsSync(join(directory, "model.json")) || !existsSync(summary)) return false;
  return (JSON.parse(readFileSync(summary, "utf8")) as ReportFacts).steps === step;
}

/**
 * Examines the maps of a checkpoint's model, in processes of its own.
 * @param count test images to look at
 */
export async function examineMaps(
  options: Omit<PoolOptions, "size" | "onResult">,
  count: number,
  onProgress?: (done: number, images: number) => void,
): Promise<Faithfulness | null> {
  const dataset = openDataset(options.dataDirectory);
  const images = dataset.test.count;
  dataset.close();
  const drawn = drawImages(images, count, options.checkpoint.config?.recipe.seed ?? 0);
  let done = 0;
  const onResult = ({ kind }: TaskResult) => {
    if (kind !== "examined") return;
    done += 1;
    onProgress?.(done, drawn.all.length);
  };
  return faithfulnessIn((await runPool({ ...options, size: 1, onResult }, examineTasks(drawn))).results);
}

/** Maps are examined image by image; shuffling the weights comes last, since it spoils the process's model. */
const examineTasks = ({ all, cascade }: ReturnType<typeof drawImages>) => [
  ...all.map((image) => ({ kind: "examine", image }) as const),
  ...(cascade.length === 0 ? [] : [{ kind: "cascade", images: cascade } as const]),
];

const batchesOf = (results: readonly TaskResult[]) =>
  results.flatMap((result) => (result.kind === "predicted" ? [result.batch] : []));

function faithfulnessIn(results: readonly TaskResult[]): Faithfulness | null {
  const examined = results.flatMap((result) =>
    result.kind === "examined" && result.image !== null ? [result.image] : [],
  );
  const steps = results.flatMap((result) => (result.kind === "cascaded" ? [result.steps] : []));
  return examined.length === 0 ? null : faithfulnessOf(examined, steps[0] ?? null);
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
