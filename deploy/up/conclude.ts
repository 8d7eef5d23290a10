import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { sentenceOfEvent } from "../../coordinator/account.ts";
import { checkpointDirectory } from "../../coordinator/checkpoints/checkpoint-files.ts";
import { flawOf } from "../../coordinator/checkpoints/flaw.ts";
import type { RunEvent } from "../../coordinator/machine/state.ts";
import { machineFacts } from "../../shared/config/facts.ts";
import type { Config } from "../../shared/config/schema.ts";
import { type Dataset, openDataset } from "../../shared/data/dataset.ts";
import { readLines } from "../../shared/data/json-lines.ts";
import { evaluatedOn } from "../../shared/data/training-part.ts";
import { LockstepError } from "../../shared/errors.ts";
import { type ExportedCheckpoint, exportCheckpoint } from "../../worker/compute/export-checkpoint.ts";
import type { MapMethod } from "../../worker/compute/predictor.ts";
import { loadTensorFlow } from "../../worker/compute/tensorflow.ts";
import { findCheckpoint, newestInManifest } from "../../worker/evaluation/checkpoint.ts";
import { examineMaps } from "../../worker/evaluation/evaluate.ts";
import type { Faithfulness } from "../../worker/evaluation/faithfulness/result.ts";
import { eventFacts, stepFacts, validationFacts } from "../../worker/evaluation/history.ts";
import { predictTasks, runPool } from "../../worker/evaluation/predict-pool.ts";
import {
  decodePredictions,
  mergePredictions,
  PREDICTIONS_FILE,
  type Predictions,
} from "../../worker/evaluation/predictions.ts";
import { buildReport, type ReportFacts } from "../../worker/evaluation/report.ts";
import { writeTryPage } from "../../worker/evaluation/try-page.ts";
import { builtProgram } from "./built.ts";
import { heldOutPredictions } from "./held-out.ts";
import { readBatches } from "./predicted-batches.ts";
import { readRunConfig } from "./prepare.ts";

/** What a process that predicts takes: Node, TensorFlow, weights and a batch; in bytes. */
const PREDICTOR_BYTES = 2 ** 30;

/**
 * What is left to do when a run has ended: export the model from its last checkpoint, make the report from what the workers
 * predicted, complete summary.json.
 */
export async function conclude(directory: string): Promise<void> {
  const config = readRunConfig(directory);
  const dataset = openDataset(config.place.dataDirectory, config.recipe.trainingPart);
  try {
    const { mapMethod, ...model } = await exportFrom(directory, config, dataset);
    const figures = { weightsSha256: model.weightsSha256, parameters: model.parameters, modelBytes: model.modelBytes };
    const summary = { ...readJson(join(directory, "summary.json")), ...figures };
    writeJson(join(directory, "summary.json"), summary);
    if (config.place.evaluation === null) return;
    const faithfulness = await examined(directory, config);
    const predictions = await predictionsOf(directory, config, dataset);
    const accuracy = await report(directory, config, dataset, summary, predictions, { mapMethod, faithfulness });
    writeTryPage(join(directory, "model"), config.recipe.flipAveraging, join(directory, "report"));
    writeJson(join(directory, "summary.json"), { ...summary, accuracy });
    // All that they held is in report/predictions.safetensors.
    rmSync(join(directory, "report", "predictions"), { recursive: true, force: true });
  } finally {
    dataset.close();
  }
}

async function exportFrom(directory: string, config: Config, dataset: Dataset): Promise<ExportedCheckpoint> {
  const checkpoints = join(directory, "checkpoints");
  const newest = newestInManifest(readJson(join(checkpoints, "manifest.json")));
  if (newest === null) {
    throw new LockstepError("LS_NO_CHECKPOINT", `The run in ${directory} has no checkpoint to export a model from.`);
  }
  const path = join(checkpoints, newest.file);
  const flaw = await flawOf(checkpointDirectory(checkpoints), newest);
  if (flaw !== null) {
    throw new LockstepError("LS_CHECKPOINT_DAMAGED", `${path} is not what was recorded: ${flaw}.`, {
      hint: "Delete summary.json and resume the run: it goes on from the checkpoint before.",
    });
  }
  return exportCheckpoint(loadTensorFlow(), config, dataset.classNames, path, join(directory, "model"));
}

/** Whether the maps are true, asked of the model that was exported, in as many processes as there were workers. */
async function examined(directory: string, config: Config): Promise<Faithfulness | null> {
  const { place, recipe } = config;
  const count = place.evaluation!.examined;
  if (count === 0) return null;
  process.stderr.write(`Examining the maps of ${count} ${evaluatedOn(recipe.trainingPart)} images.\n`);
  return examineMaps(poolOf(directory, config), count);
}

/** Processes for the model that was exported, as many as there were workers. */
const poolOf = (directory: string, { place, recipe }: Config) => ({
  checkpoint: findCheckpoint(join(directory, "model")),
  dataDirectory: place.dataDirectory,
  part: recipe.trainingPart ?? null,
  processes: processesFor(place.workers),
  devices: ["cpu"],
  program: builtProgram("worker/evaluation/predict-main.js"),
  signal: new AbortController().signal,
});

/** No more than cores and memory take, this process counted: a coordinator's container is small, however many workers it had. */
function processesFor(workers: number): number {
  const { cores, memoryBytes } = machineFacts();
  return Math.max(1, Math.min(workers, cores, Math.floor(memoryBytes / PREDICTOR_BYTES) - 1));
}

async function report(
  directory: string,
  config: Config,
  dataset: Dataset,
  facts: ReportFacts,
  predictions: Predictions,
  maps: { readonly mapMethod: MapMethod; readonly faithfulness: Faithfulness | null },
) {
  const { temperatureFrom } = config.place;
  const { accuracy } = await buildReport({
    predictions,
    ...maps,
    heldOut: temperatureFrom === undefined ? null : heldOutPredictions(temperatureFrom, config.recipe),
    images: dataset.test,
    classNames: dataset.classNames,
    config,
    facts,
    steps: stepFacts(readLines(join(directory, "steps.ndjson"))),
    validations: validationFacts(readLines(join(directory, "validations.ndjson"))),
    events: eventFacts(readLines(join(directory, "events.ndjson")).flatMap(withSentence)),
    outDirectory: join(directory, "report"),
  });
  return accuracy;
}

/**
 * What the workers delivered; or what was made of it, when the report is made again. A run that has ended at a former state
 * has let them go: that state is evaluated here, by as many processes.
 */
async function predictionsOf(directory: string, config: Config, dataset: Dataset): Promise<Predictions> {
  const batches = join(directory, "report", "predictions");
  const file = join(directory, "report", PREDICTIONS_FILE);
  if (!existsSync(batches) && existsSync(file)) return decodePredictions(new Uint8Array(readFileSync(file)), file);
  const delivered = [...readBatches(batches)];
  if (delivered.length > 0) return mergePredictions(delivered, dataset.test.labels);
  const { count, labels } = dataset.test;
  process.stderr.write(`Evaluating the state that was best on ${count} images.\n`);
  const size = config.place.evaluation!.batch;
  const { results } = await runPool({ ...poolOf(directory, config), size }, predictTasks(count, size));
  return mergePredictions(
    results.flatMap((result) => (result.kind === "predicted" ? [result.batch] : [])),
    labels,
  );
}

/** The events that people read of, with their sentence. */
export function withSentence(line: Readonly<Record<string, unknown>>): Record<string, unknown>[] {
  const text = sentenceOfEvent(line as unknown as RunEvent);
  return typeof text === "string" ? [{ ...line, kind: line.type, text }] : [];
}

/** @throws LockstepError LS_RUN_FILE */
function readJson(file: string): Record<string, unknown> {
  try {
    return JSON.parse(readFileSync(file, "utf8")) as Record<string, unknown>;
  } catch (cause) {
    const state = existsSync(file) ? "cannot be read" : "is missing";
    throw new LockstepError("LS_RUN_FILE", `${file} ${state}.`, { hint: "Has the run reached its end?", cause });
  }
}

function writeJson(file: string, value: object): void {
  writeFileSync(`${file}.partial`, `${JSON.stringify(value, null, 2)}\n`);
  renameSync(`${file}.partial`, file);
}
