import { z } from "zod";
import { regionsSchema } from "./faithfulness/region-game.ts";
import { faithfulnessSchema } from "./faithfulness/result.ts";

/** report.json. Names are stable: more may be added, none is renamed within a format. */

const fraction = z.number().min(0).max(1);
const count = z.number().int().min(0);

const proportion = z
  .object({ hits: count, count, value: fraction, low: fraction, high: fraction })
  .describe("A share with its 95 % Wilson interval");

const example = z
  .object({
    image: count.describe("Place among the images that it was evaluated on, from 0"),
    predicted: z.string(),
    confidence: fraction.describe("Probability of the predicted class"),
    trueProbability: fraction,
    map: z
      .enum(["evidence", "uniform", "none", "invalid"])
      .nullable()
      .describe("What the map of the predicted class says; null without maps"),
  })
  .describe("One image as the report shows it");

export const reportSchema = z
  .object({
    format: z.literal(1),
    run: z.string().nullable(),
    model: z.string().nullable(),
    created: z.iso.datetime().describe("When the report was written"),
    testImages: count.describe("Images that it was evaluated on"),
    evaluatedOn: z.enum(["test", "held-out"]).describe("Test images, or training images that were held out"),
    classes: z.array(z.string()),
    accuracy: z.object({
      top1: proportion,
      topK: proportion.extend({ k: count }).describe("k is 5, or the number of classes where that is less"),
      macroPrecision: fraction,
      macroRecall: fraction,
      macroF1: fraction,
    }),
    perClass: z.array(
      z.object({
        name: z.string(),
        precision: proportion.nullable().describe("null where nothing was called so"),
        recall: proportion.nullable().describe("null where there are no images of it"),
        f1: fraction,
        support: count,
      }),
    ),
    confusion: z.array(z.array(count)).describe("Rows: true class, columns: predicted class"),
    confusedPairs: z.array(z.object({ actual: z.string(), predicted: z.string(), count, share: fraction })),
    calibration: z.object({
      expectedCalibrationError: fraction.describe("15 bins of equal width, Guo et al. 2017"),
      maximumCalibrationError: fraction,
      negativeLogLikelihood: z.number().min(0).describe("Nats"),
      brierScore: z.number().min(0).max(2),
      meanConfidence: fraction,
      bins: z.array(z.object({ low: fraction, high: fraction, count, confidence: fraction, accuracy: fraction })),
      temperature: z
        .object({
          value: z.number().positive().describe("Fitted on held-out images, never on the test set"),
          heldOutImages: count,
          expectedCalibrationError: fraction,
          negativeLogLikelihood: z.number().min(0),
        })
        .nullable(),
    }),
    selective: z.object({
      areaUnderRiskCoverage: fraction,
      coverageAtRisk: z.array(z.object({ risk: fraction, coverage: fraction })),
    }),
    maps: z
      .object({
        method: z
          .enum(["cam", "grad-cam"])
          .describe("Exact (Zhou et al. 2016) or by gradients (Selvaraju et al. 2017)"),
        height: count,
        width: count,
        kinds: z.object({ evidence: count, uniform: count, none: count, invalid: count }),
      })
      .nullable()
      .describe("Maps of the predicted class over all images; null for models without any"),
    flipAveraging: z
      .object({
        plainTop1: proportion.describe("Without flip averaging"),
        gain: z.object({ value: z.number(), low: z.number(), high: z.number() }).describe("Of top-1, paired bootstrap"),
      })
      .nullable()
      .describe("null where logits are not averaged over mirror images"),
    faithfulness: faithfulnessSchema.nullable().describe("Whether the maps are true; null where nobody looked"),
    regions: regionsSchema
      .nullable()
      .describe("Maps beside the regions that people marked; null without a file of them"),
    examples: z.array(
      z.object({
        class: z.string(),
        best: z.array(example),
        worst: z.array(example),
        random: z.array(example),
      }),
    ),
    training: z.object({
      steps: count,
      finalLoss: z.number().nullable(),
      imagesPerSecond: z.number().nullable(),
      views: count.nullable(),
      failuresSurvived: count.nullable(),
    }),
    hashes: z.object({
      weightsSha256: z.string().nullable(),
      stateSha256: z.string().nullable(),
      lineage: z.string().nullable(),
      predictionsSha256: z.string().describe("SHA-256 of predictions.safetensors"),
    }),
  })
  .describe("Lockstep's evaluation report");

export type ReportJson = z.infer<typeof reportSchema>;
export type ExampleJson = z.infer<typeof example>;

/** The schema that is published beside this file, for readers in other languages. */
export const reportJsonSchema = (): object => z.toJSONSchema(reportSchema);
