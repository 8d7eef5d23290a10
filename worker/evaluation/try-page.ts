import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { z } from "zod";
import { LockstepError } from "../../shared/errors.ts";
import { paletteBytes } from "./overlay.ts";
import { renderTemplate, templateText } from "./templates.ts";
import { writeWhole } from "./whole-file.ts";

/** Name of the page in a report's directory. */
export const TRY_PAGE = "try.html";

/** Weights up to this size are put into the page; larger ones are chosen with its file picker. */
const MOST_EMBEDDED = 64e6;

const list = <T extends z.ZodType>(item: T) =>
  z.string().transform((text) => z.array(item).parse(JSON.parse(text) as unknown));
const modelSchema = z.object({
  modelTopology: z.unknown(),
  weightsManifest: z.array(z.object({ paths: z.array(z.string()), weights: z.array(z.unknown()) })),
  userDefinedMetadata: z.object({
    model: z.string(),
    classes: list(z.string()),
    inputShape: list(z.number()),
    mean: list(z.number()),
    deviation: list(z.number()),
  }),
});

/**
 * Writes a page that runs an exported model on the user's own picture with TensorFlow.js: it opens from disk, asks nobody for
 * anything, and shows what the evaluator would: probabilities and exact maps.
 * @param modelDirectory a run's model/ directory
 * @param flipAveraging as in the run's recipe
 * @returns the page's path, or null where there is no exported model
 * @throws LockstepError LS_EVALUATION_FILE where model.json is not one of ours
 */
export function writeTryPage(modelDirectory: string, flipAveraging: boolean, outDirectory: string): string | null {
  const file = join(modelDirectory, "model.json");
  if (!existsSync(file)) return null;
  const parsed = modelSchema.safeParse(JSON.parse(readFileSync(file, "utf8")));
  if (!parsed.success) {
    throw new LockstepError("LS_EVALUATION_FILE", `${file} is not a model that Lockstep exported.`, {
      cause: parsed.error,
    });
  }
  const { modelTopology, weightsManifest, userDefinedMetadata: about } = parsed.data;
  const parts = weightsManifest.flatMap(({ paths }) => paths.map((path) => readFileSync(join(modelDirectory, path))));
  const bytes = parts.reduce((sum, { length }) => sum + length, 0);
  const facts = {
    model: { modelTopology, weightSpecs: weightsManifest.flatMap(({ weights }) => weights) },
    classes: about.classes,
    side: about.inputShape[0],
    mean: about.mean,
    deviation: about.deviation,
    flipAveraging,
    palette: Buffer.from(paletteBytes()).toString("base64"),
  };
  const page = renderTemplate("./try.eta", {
    styles: templateText("report.css"),
    script: templateText("try.js"),
    tensorflow: tensorflowScript(),
    name: about.model,
    classes: about.classes,
    facts: inScript(JSON.stringify(facts)),
    weights: bytes > MOST_EMBEDDED ? "" : Buffer.concat(parts).toString("base64"),
  });
  return writeWhole(join(outDirectory, TRY_PAGE), page);
}

/** TensorFlow.js as one script, with its licence's notice. */
function tensorflowScript(): string {
  const root = dirname(createRequire(import.meta.url).resolve("@tensorflow/tfjs/package.json"));
  return inScript(readFileSync(join(root, "dist/tf.min.js"), "utf8")).replace(/\n\/\/# sourceMappingURL=.*/, "");
}

/** Text that cannot end the script element which it stands in. */
const inScript = (text: string) => text.replaceAll("</script", "<\\/script").replaceAll("<!--", "<\\!--");
