import { z } from "zod";
import { compareMaps, mapAgreementSchema, type PairExamples } from "./map-comparison.ts";
import { type Difference, pairedBootstrap } from "./metrics/bootstrap.ts";
import { mcnemar } from "./metrics/mcnemar.ts";
import { predictedClasses } from "./metrics/probabilities.ts";
import type { Predictions } from "./predictions.ts";
import type { ReportJson } from "./report-schema.ts";

/** One model of a comparison. */
export interface Compared {
  readonly name: string;
  readonly json: ReportJson;
  readonly predictions: Predictions;
  readonly parameters: number | null;
  readonly weightBytes: number | null;
  /** Of evaluation on this machine, maps and flip averaging included. */
  readonly imagesPerSecond: number | null;
  /** Path of its own report, as seen from the comparison. */
  readonly report: string | null;
}

const fraction = z.number().min(0).max(1);
const difference = z.number().min(-1).max(1);

export const comparisonSchema = z
  .object({
    format: z.literal(1),
    testImages: z.number().int(),
    evaluatedOn: z.enum(["test", "held-out"]),
    models: z.array(
      z.object({
        name: z.string(),
        top1: fraction,
        top1Low: fraction,
        top1High: fraction,
        topK: fraction,
        macroF1: fraction,
        negativeLogLikelihood: z.number(),
        expectedCalibrationError: fraction,
        parameters: z.number().nullable(),
        weightBytes: z.number().nullable(),
        imagesPerSecond: z.number().nullable(),
        report: z.string().nullable(),
      }),
    ),
    pairs: z.array(
      z.object({
        first: z.string(),
        second: z.string(),
        difference: difference.describe("Top-1 of the first minus top-1 of the second"),
        low: difference.describe("95 % interval of the paired bootstrap"),
        high: difference,
        onlyFirst: z.number().int().describe("Images that only the first recognises"),
        onlySecond: z.number().int(),
        pValue: fraction.describe("McNemar's exact test that both are equally accurate"),
        maps: mapAgreementSchema.nullable().describe("null where one of the models has no maps"),
      }),
    ),
  })
  .describe("Lockstep's comparison of models on one test set");

export type ComparisonJson = z.infer<typeof comparisonSchema>;

/** Images of each kind that show a pair. */
const EXAMPLES = 4;

/**
 * Compares models that saw the same test images, in the order given, every pair once.
 * @returns the figures, and for each pair images that show where they look; null for a pair without maps
 * @throws RangeError where they saw different ones
 */
export function compare(
  models: readonly Compared[],
  seed = 0,
): { readonly json: ComparisonJson; readonly examples: readonly (PairExamples | null)[] } {
  const right = models.map(({ predictions }) => {
    const predicted = predictedClasses(predictions);
    return Array.from(predictions.labels, (label, i) => label === predicted[i]);
  });
  const examples: (PairExamples | null)[] = [];
  const pairs = models.flatMap((first, a) =>
    models.slice(a + 1).map((second, offset) => {
      const b = a + 1 + offset;
      requireSame(first.predictions, second.predictions);
      const { value, low, high }: Difference = pairedBootstrap(right[a]!, right[b]!, { seed });
      const maps = compareMaps(first.predictions, second.predictions, EXAMPLES);
      examples.push(maps?.examples ?? null);
      const names = { first: first.name, second: second.name };
      const tested = mcnemar(right[a]!, right[b]!);
      return { ...names, difference: value, low, high, ...tested, maps: maps?.agreement ?? null };
    }),
  );
  const json = comparisonSchema.parse({
    format: 1,
    testImages: models[0]?.predictions.samples ?? 0,
    evaluatedOn: models[0]?.json.evaluatedOn ?? "test",
    models: models.map(({ name, json, parameters, weightBytes, imagesPerSecond, report }) => ({
      name,
      top1: json.accuracy.top1.value,
      top1Low: json.accuracy.top1.low,
      top1High: json.accuracy.top1.high,
      topK: json.accuracy.topK.value,
      macroF1: json.accuracy.macroF1,
      negativeLogLikelihood: json.calibration.negativeLogLikelihood,
      expectedCalibrationError: json.calibration.expectedCalibrationError,
      parameters,
      weightBytes,
      imagesPerSecond,
      report,
    })),
    pairs,
  });
  return { json, examples };
}

function requireSame(first: Predictions, second: Predictions): void {
  const same = first.samples === second.samples && first.labels.every((label, i) => label === second.labels[i]);
  if (!same) throw new RangeError("the models were evaluated on different test sets");
}
