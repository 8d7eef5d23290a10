import { mkdirSync } from "node:fs";
import { availableParallelism, freemem } from "node:os";
import { join, relative, resolve } from "node:path";
import { usage } from "../../shared/config/options.ts";
import { openDataset } from "../../shared/data/dataset.ts";
import { readLines } from "../../shared/data/json-lines.ts";
import { evaluatedOn, type TrainingPart } from "../../shared/data/training-part.ts";
import { type Checkpoint, findCheckpoint } from "../../worker/evaluation/checkpoint.ts";
import { type Compared, compare } from "../../worker/evaluation/comparison.ts";
import { type Evaluated, evaluateCheckpoint } from "../../worker/evaluation/evaluate.ts";
import { eventFacts } from "../../worker/evaluation/history.ts";
import { renderComparison } from "../../worker/evaluation/page.ts";
import { pairPictures } from "../../worker/evaluation/pair-pictures.ts";
import type { PictureChoice } from "../../worker/evaluation/picture-files.ts";
import type { Predictions } from "../../worker/evaluation/predictions.ts";
import { writeWhole } from "../../worker/evaluation/whole-file.ts";
import { obtainDataDirectory } from "../data/locations.ts";
import { FetchDisplay } from "../data/progress.ts";
import { builtProgram } from "../up/built.ts";
import { withSentence } from "../up/conclude.ts";
import { devicesOf } from "../up/devices.ts";
import { heldOutPredictions } from "../up/held-out.ts";
import { Interrupts } from "../up/interrupts.ts";
import { runDirectory } from "../up/prepare.ts";
import { percent } from "../up/text.ts";
import type { EvaluateCommandOptions } from "./evaluate.ts";

/** Memory that one process of the evaluation needs, roughly; a larger estimate only costs parallelism. */
const PROCESS_BYTES = 1.5e9;

/** `lockstep evaluate`: reports of one or several checkpoints; gives the exit code. */
export async function evaluate(given: readonly string[], options: EvaluateCommandOptions): Promise<number> {
  const processes = processesOf(options.workers);
  const devices = devicesOf(options.devices);
  const examined = examinedOf(options.examine);
  const pictures = pictureChoice(options.pictures);
  const checkpoints = distinctNames(given.map(findCheckpoint));
  const partOf = ({ config }: Checkpoint) =>
    options.data === undefined ? (config?.recipe.trainingPart ?? null) : null;
  const imagesOf = (part: TrainingPart | null) => (part?.kind === "holdOut" ? JSON.stringify(part) : "test");
  if (new Set(checkpoints.map((checkpoint) => imagesOf(partOf(checkpoint)))).size > 1) throw OTHER_IMAGES;
  if (options.regions !== undefined && checkpoints.some((checkpoint) => evaluatedOn(partOf(checkpoint)) === "held-out"))
    throw usage("--regions tells of test images; a run that held images out is evaluated on those.", "Add --data.");
  const interrupts = new Interrupts();
  const out = resolve(options.report ?? "evaluation");
  try {
    const done: Compared[] = [];
    let source: Parameters<typeof openDataset> = [""];
    for (const checkpoint of checkpoints) {
      const { signal } = interrupts.first;
      const outDirectory = checkpoints.length === 1 ? out : join(out, checkpoint.name);
      const dataDirectory = await dataOf(checkpoint, options.data, signal);
      const part = partOf(checkpoint);
      source = [dataDirectory, part];
      const evaluated = await evaluateCheckpoint({
        checkpoint,
        dataDirectory,
        part,
        heldOut: heldOutOf(checkpoint, part, options.temperatureFrom),
        outDirectory,
        processes,
        devices,
        examined,
        regions: options.regions ?? null,
        pictures,
        program: builtProgram("worker/evaluation/predict-main.js"),
        events: eventsOf(checkpoint),
        signal,
        onProgress: progressOf(checkpoint.name),
      });
      tell(checkpoint, evaluated, outDirectory, options.json);
      done.push(comparedOf(checkpoint, evaluated, relative(out, join(outDirectory, "report.html"))));
    }
    if (done.length > 1) await setSideBySide(done, source, out, options.json);
    return 0;
  } catch (error) {
    if (!interrupts.any) throw error;
    process.stderr.write("\nInterrupted; no report was written for what was under way.\n");
    return 130;
  } finally {
    interrupts.close();
  }
}

function heldOutOf({ config }: Checkpoint, part: TrainingPart | null, run: string | undefined): Predictions | null {
  if (run === undefined) return null;
  if (config === null)
    throw usage("--temperature-from needs checkpoints of runs: a model alone does not say its data.");
  return heldOutPredictions(runDirectory(run), { data: config.recipe.data, trainingPart: part ?? undefined });
}

function examinedOf(text: string): number {
  if (/^\d{1,5}$/.test(text)) return Number(text);
  throw usage(`--examine must be a whole number up to 99999; it is "${text}".`);
}

function pictureChoice(text: string | undefined): PictureChoice | null {
  if (text === undefined || text === "all" || text === "errors") return text ?? null;
  if (/^\d+(,\d+)*$/.test(text)) return text.split(",").map(Number);
  throw usage(`--pictures must be all, errors, or places of test images such as 3,17,200; it is "${text}".`);
}

function processesOf(text: string | undefined): number {
  if (text === undefined) return Math.max(1, Math.min(availableParallelism(), Math.floor(freemem() / PROCESS_BYTES)));
  if (/^[1-9]\d{0,3}$/.test(text)) return Number(text);
  throw usage(`--workers must be a whole number of at least 1; it is "${text}".`);
}

/** Two checkpoints of one name get a number, so that neither overwrites the other's report. */
function distinctNames(checkpoints: readonly Checkpoint[]): Checkpoint[] {
  const seen = new Map<string, number>();
  return checkpoints.map((checkpoint) => {
    const times = (seen.get(checkpoint.name) ?? 0) + 1;
    seen.set(checkpoint.name, times);
    return times === 1 ? checkpoint : { ...checkpoint, name: `${checkpoint.name}-${times}` };
  });
}

async function dataOf({ config }: Checkpoint, option: string | undefined, signal: AbortSignal): Promise<string> {
  if (option === undefined && config !== null) return config.place.dataDirectory;
  const display = new FetchDisplay(process.stderr);
  try {
    const { directory } = await obtainDataDirectory({
      option,
      signal,
      onProgress: (progress) => display.progress(progress),
      onMessage: (message) => display.message(message),
    });
    return directory;
  } finally {
    display.end();
  }
}

const eventsOf = ({ run }: Checkpoint) =>
  run === null ? [] : eventFacts(readLines(join(run, "events.ndjson")).flatMap(withSentence));

/** One line that is rewritten on a terminal, a line for every tenth elsewhere. */
function progressOf(name: string): (what: "predicted" | "examined", done: number, images: number) => void {
  const terminal = process.stderr.isTTY === true;
  let told = 0;
  let before = "predicted";
  return (what, done, images) => {
    if (what !== before) told = 0;
    before = what;
    const tenth = Math.floor((10 * done) / images);
    const doing = what === "predicted" ? "evaluating" : "examining maps of";
    const line = `${doing} ${name}: ${done.toLocaleString("en")} of ${images.toLocaleString("en")} images`;
    if (terminal) process.stderr.write(`\r${line}\u001b[K${done === images ? "\n" : ""}`);
    else if (tenth > told) process.stderr.write(`${line}\n`);
    told = tenth;
  };
}

function tell({ given, name }: Checkpoint, { report, seconds }: Evaluated, directory: string, json: boolean): void {
  const { top1, top1Low, top1High, top5 } = report.accuracy;
  const page = join(directory, "report.html");
  if (json) {
    const { accuracy } = report;
    process.stdout.write(
      `${JSON.stringify({ type: "evaluated", checkpoint: given, name, accuracy, seconds, report: page })}\n`,
    );
  }
  const text = json ? process.stderr : process.stdout;
  const interval = `95 % interval ${percent(top1Low)} to ${percent(top1High)}`;
  const images = report.json.evaluatedOn === "held-out" ? " of held-out training images" : "";
  text.write(`${name}: top 1 ${percent(top1)}${images} (${interval}), top 5 ${percent(top5)}\nreport: ${page}\n`);
}

const OTHER_IMAGES = usage(
  "The checkpoints were evaluated on different images, so they cannot be compared; give a data set with --data.",
);

const comparedOf = ({ name }: Checkpoint, { report, predictions, pool }: Evaluated, page: string): Compared => ({
  name,
  json: report.json,
  predictions,
  parameters: pool.parameters,
  weightBytes: pool.weightBytes,
  imagesPerSecond: predictions.samples / pool.predictionSeconds,
  report: page,
});

/**
 * @param source where the images are that all of them were evaluated on
 * @throws LockstepError LS_USAGE where the checkpoints were evaluated on different images
 */
async function setSideBySide(
  models: readonly Compared[],
  source: Parameters<typeof openDataset>,
  out: string,
  json: boolean,
): Promise<void> {
  if (new Set(models.map(({ predictions }) => predictions.labels.join())).size > 1) {
    throw OTHER_IMAGES;
  }
  const { json: comparison, examples } = compare(models);
  const dataset = openDataset(...source);
  const { classNames, test } = dataset;
  const shown = await pairPictures(models, examples, classNames, test).finally(() => dataset.close());
  mkdirSync(out, { recursive: true });
  writeWhole(join(out, "comparison.json"), `${JSON.stringify(comparison, null, 2)}\n`);
  const page = writeWhole(join(out, "comparison.html"), renderComparison(comparison, shown, test.shape));
  if (json) process.stdout.write(`${JSON.stringify({ type: "compared", ...comparison, page })}\n`);
  (json ? process.stderr : process.stdout).write(`comparison: ${page}\n`);
}
