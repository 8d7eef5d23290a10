import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type Dataset, openDataset } from "../../shared/data/dataset.ts";
import { readLines } from "../../shared/data/json-lines.ts";
import { evaluatedOn } from "../../shared/data/training-part.ts";
import type { Checkpoint } from "./checkpoint.ts";
import type { Marked } from "./faithfulness/region-game.ts";
import { readRegions } from "./faithfulness/regions.ts";
import { drawImages, type Faithfulness, faithfulnessOf } from "./faithfulness/result.ts";
import { type EventFact, stepFacts, validationFacts } from "./history.ts";
import type { Classified } from "./metrics/probabilities.ts";
import { checkChoice, type PictureChoice, writePictures } from "./picture-files.ts";
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
  /** Training images that the model was not trained on, for temperature scaling. */
  readonly heldOut?: Classified | null;
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
  const { checkpoint, dataDirectory, part = null, outDirectory, examined, onProgress } = options;
  const { config, run, step } = checkpoint;
  const dataset = openDataset(dataDirectory, part);
  try {
    const started = performance.now();
    const images = dataset.test.count;
    const size = config?.place.evaluation?.batch ?? BATCH;
    // What can be wrong with the options is said before the work, not after it.
    const regions = options.regions === null ? null : markedIn(options.regions, dataset);
    if (options.pictures !== null) checkChoice(options.pictures, images);
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
    const validations = run === null ? [] : validationFacts(readLines(join(run, "validations.ndjson")));
    const report = await buildReport({
      predictions,
      mapMethod: pool.mapMethod,
      faithfulness: faithfulnessIn(pool.results),
      regions,
      images: dataset.test,
      classNames: dataset.classNames,
      config,
      facts: { ...factsOf(checkpoint, pool), evaluationSeconds: seconds, evaluatedOn: evaluatedOn(part) },
      heldOut: options.heldOut ?? null,
      steps: step === null ? steps : steps.filter((fact) => fact.step <= step),
      validations: step === null ? validations : validations.filter((fact) => fact.step <= step),
      events: options.events,
      outDirectory,
    });
    const exported = exportOf(checkpoint);
    if (exported !== null) writeTryPage(exported, config?.recipe.flipAveraging ?? false, outDirectory);
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

const markedIn = (file: string, { classNames, test }: Dataset): Marked => ({
  file,
  ellipses: readRegions(file, classNames, test.labels),
});

/** The model directory that holds the very weights of a checkpoint; null where none does. */
function exportOf(checkpoint: Checkpoint): string | null {
  const { weights, run } = checkpoint;
  if (weights.kind === "model") return weights.directory;
  return run === null || summaryOf(checkpoint) === null ? null : join(run, "model");
}

/**
 * Examines the maps of a checkpoint's model, in processes of its own.
 * @param count test images to look at
 */
export async function examineMaps(
  options: Omit<PoolOptions, "size" | "onResult">,
  count: number,
): Promise<Faithfulness | null> {
  const dataset = openDataset(options.dataDirectory, options.part);
  const images = dataset.test.count;
  dataset.close();
  const drawn = drawImages(images, count, options.checkpoint.config?.recipe.seed ?? 0);
  return faithfulnessIn((await runPool({ ...options, size: 1 }, examineTasks(drawn))).results);
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

/** What summary.json says, where it speaks of this very step. */
function summaryOf({ run, step }: Checkpoint): ReportFacts | null {
  const file = run === null ? null : join(run, "summary.json");
  if (file === null || !existsSync(file)) return null;
  const summary = JSON.parse(readFileSync(file, "utf8")) as ReportFacts;
  return step === null || summary.steps === step ? summary : null;
}

/** The run's summary, else what the config says. */
function factsOf(checkpoint: Checkpoint, { parameters, weightBytes }: PoolResult): ReportFacts {
  const { config, step, name } = checkpoint;
  const summary = summaryOf(checkpoint);
  if (summary !== null) return { ...summary, parameters, modelBytes: weightBytes };
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
