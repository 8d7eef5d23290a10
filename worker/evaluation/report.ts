import { createHash } from "node:crypto";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Config } from "../../shared/config/schema.ts";
import type { EvaluatedOn } from "../../shared/data/training-part.ts";
import { LockstepError } from "../../shared/errors.ts";
import type { MapMethod } from "../compute/predictor.ts";
import { type Analysis, analyse } from "./analysis.ts";
import { type ClassExamples, examplesOf } from "./examples.ts";
import { type Marked, regionsFound } from "./faithfulness/region-game.ts";
import type { Faithfulness } from "./faithfulness/result.ts";
import type { EventFact, StepFact, ValidationFact } from "./history.ts";
import { mapOf, normaliseMap } from "./maps.ts";
import type { Classified } from "./metrics/probabilities.ts";
import { coverageAt } from "./metrics/risk-coverage.ts";
import { renderModelCard, renderPage } from "./page.ts";
import { type ImageSource, PictureMaker } from "./pictures.ts";
import { encodePredictions, PREDICTIONS_FILE, type Predictions } from "./predictions.ts";
import { type ExampleJson, type ReportJson, reportSchema } from "./report-schema.ts";
import { writeWhole } from "./whole-file.ts";

/** What summary.json says of a run, as far as it is known; names as there. */
export interface ReportFacts {
  readonly run?: string | null;
  readonly model?: string | null;
  readonly recipe?: string | null;
  readonly seed?: number | null;
  readonly shards?: number | null;
  readonly workers?: number | null;
  readonly steps?: number | null;
  readonly epochs?: number | null;
  readonly imagesPerSecond?: number | null;
  readonly wallSeconds?: number | null;
  readonly evaluationSeconds?: number | null;
  readonly weightsSha256?: string | null;
  readonly stateSha256?: string | null;
  readonly lineage?: string | null;
  readonly reproducible?: boolean | null;
  readonly reproducibleReason?: string | null;
  readonly parameters?: number | null;
  readonly modelBytes?: number | null;
  readonly evaluatedOn?: EvaluatedOn | null;
  readonly views?: number | null;
  readonly failuresSurvived?: number | null;
  readonly samplesPerEpochExact?: boolean | null;
}

export interface ReportInput {
  readonly predictions: Predictions;
  /** The test images, in the order of the predictions. */
  readonly images: ImageSource;
  readonly classNames: readonly string[];
  readonly config: Config | null;
  readonly facts: ReportFacts;
  readonly steps: readonly StepFact[];
  /** Validations on held-out images while it was trained. */
  readonly validations?: readonly ValidationFact[];
  readonly events: readonly EventFact[];
  /** Training images that the model was not trained on, for temperature scaling. */
  readonly heldOut?: Classified | null;
  /** How the maps were made; exactly by default, where there are some. */
  readonly mapMethod?: MapMethod;
  /** What an examination of the maps has found. */
  readonly faithfulness?: Faithfulness | null;
  /** Regions that people marked in the test images. */
  readonly regions?: Marked | null;
  readonly outDirectory: string;
  /** The moment that the report names; now by default. */
  readonly created?: Date;
}

export interface ReportOutput {
  readonly json: ReportJson;
  /** As summary.json has it. */
  readonly accuracy: {
    readonly top1: number;
    readonly top1Low: number;
    readonly top1High: number;
    readonly top5: number;
  };
  /** Paths of the files written. */
  readonly files: readonly string[];
}

/**
 * Writes report.html, report.json, model-card.md and predictions.safetensors into the directory, each whole or not at all.
 * @throws LockstepError LS_EVALUATION_NOT_FINITE where the model's logits are not finite, LS_EVALUATION_CLASSES where
 * there are more or fewer names than classes
 */
export async function buildReport(given: ReportInput): Promise<ReportOutput> {
  // One moment for all files.
  const input = { ...given, created: given.created ?? new Date() };
  const { predictions, classNames, outDirectory } = input;
  if (classNames.length !== predictions.classes) {
    const found = `the data set names ${classNames.length} classes, the model tells ${predictions.classes} apart`;
    throw new LockstepError("LS_EVALUATION_CLASSES", `No report can be made: ${found}.`, {
      hint: "Give the data set that the model was trained for.",
      exitCode: 2,
    });
  }
  const analysis = analyse(predictions, input.heldOut ?? null);
  const seed = input.config?.recipe.seed ?? 0;
  const count = examplesPerClass(classNames.length);
  const examples = classNames.map((_, label) => examplesOf(analysis, label, count, seed));
  const bytes = encodePredictions(predictions);
  const json = reportJson(input, analysis, examples, createHash("sha256").update(bytes).digest("hex"));
  const pictures = new PictureMaker(predictions, analysis, classNames, input.images);
  mkdirSync(outDirectory, { recursive: true });
  const files = {
    [PREDICTIONS_FILE]: bytes,
    "report.json": `${JSON.stringify(json, null, 2)}\n`,
    "model-card.md": renderModelCard({ ...input, analysis, json }),
    "report.html": await renderPage({ ...input, analysis, json, examples, pictures }),
  };
  const { top1, topK } = analysis;
  return {
    json,
    accuracy: { top1: top1.value, top1Low: top1.low, top1High: top1.high, top5: topK.value },
    files: Object.entries(files).map(([name, content]) => writeWhole(join(outDirectory, name), content)),
  };
}

/** Fewer examples of each class where there are many classes, so that the page stays small. */
const examplesPerClass = (classes: number) => (classes <= 12 ? 3 : classes <= 24 ? 2 : 1);

function reportJson(
  { predictions, classNames, facts, steps, config, images, created = new Date(), ...input }: ReportInput,
  analysis: Analysis,
  examples: readonly ClassExamples[],
  predictionsSha256: string,
): ReportJson {
  const { confusion, calibration, temperature, top1, topK, macro, mapKinds } = analysis;
  const name = (label: number) => classNames[label]!;
  const example = (id: number): ExampleJson => ({
    image: id,
    predicted: name(analysis.predicted[id]!),
    confidence: analysis.confidences[id]!,
    trueProbability: analysis.probabilities[id * predictions.classes + analysis.labels[id]!]!,
    map: predictions.maps === null ? null : normaliseMap(mapOf(predictions.maps, id, 0)).kind,
  });
  return reportSchema.parse({
    format: 1,
    run: facts.run ?? config?.runId ?? null,
    model: facts.model ?? config?.recipe.model.name ?? null,
    created: created.toISOString(),
    testImages: predictions.samples,
    evaluatedOn: facts.evaluatedOn ?? "test",
    classes: [...classNames],
    accuracy: { top1, topK, macroPrecision: macro.precision, macroRecall: macro.recall, macroF1: macro.f1 },
    perClass: analysis.perClass.map((metrics, label) => ({ name: name(label), ...metrics })),
    confusion: classNames.map((_, row) => [
      ...confusion.counts.subarray(row * confusion.classes, (row + 1) * confusion.classes),
    ]),
    confusedPairs: analysis.pairs.map((pair) => ({
      ...pair,
      actual: name(pair.actual),
      predicted: name(pair.predicted),
    })),
    calibration: {
      expectedCalibrationError: calibration.ece,
      maximumCalibrationError: calibration.mce,
      negativeLogLikelihood: analysis.negativeLogLikelihood,
      brierScore: analysis.brierScore,
      meanConfidence: analysis.meanConfidence,
      bins: calibration.bins.map((bin) => ({ ...bin })),
      temperature,
    },
    selective: {
      areaUnderRiskCoverage: analysis.riskCoverage.aurc,
      coverageAtRisk: [0.01, 0.05, 0.1].map((risk) => ({ risk, coverage: coverageAt(analysis.riskCoverage, risk) })),
    },
    maps:
      predictions.maps === null || mapKinds === null
        ? null
        : {
            method: input.mapMethod ?? "cam",
            height: predictions.maps.height,
            width: predictions.maps.width,
            kinds: { ...mapKinds },
          },
    flipAveraging: analysis.flipAveraging,
    faithfulness: input.faithfulness ?? null,
    regions: regionsFound(input.regions ?? null, predictions, images.shape),
    examples: examples.map(({ label, best, worst, random }) => ({
      class: name(label),
      best: best.map(example),
      worst: worst.map(example),
      random: random.map(example),
    })),
    training: {
      steps: facts.steps ?? steps.at(-1)?.step ?? 0,
      finalLoss: steps.at(-1)?.loss ?? null,
      imagesPerSecond: facts.imagesPerSecond ?? null,
      views: facts.views ?? null,
      failuresSurvived: facts.failuresSurvived ?? null,
    },
    hashes: {
      weightsSha256: facts.weightsSha256 ?? null,
      stateSha256: facts.stateSha256 ?? null,
      lineage: facts.lineage ?? null,
      predictionsSha256,
    },
  });
}
