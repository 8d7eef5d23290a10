import { existsSync, readFileSync, statSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { z } from "zod";
import { type Config, configSchema } from "../../shared/config/schema.ts";
import { LockstepError } from "../../shared/errors.ts";

/** Something that can be evaluated: where its weights are, and the run that it came from as far as that is known. */
export interface Checkpoint {
  /** As the person wrote it. */
  readonly given: string;
  /** A short name for pages and directories. */
  readonly name: string;
  readonly weights: WeightsSource;
  /** The run's directory; null for a model that was carried elsewhere. */
  readonly run: string | null;
  readonly config: Config | null;
  /** Steps that made it; null where nothing says so. */
  readonly step: number | null;
}

export type WeightsSource =
  /** A checkpoint of the run: flat vectors, `weights` and maybe `ema`. */
  | { readonly kind: "step"; readonly file: string }
  /** A model directory: model.json and model.safetensors. */
  | { readonly kind: "model"; readonly directory: string };

const manifestSchema = z.array(
  z.object({ file: z.string(), bytes: z.number(), sha256: z.string(), tip: z.object({ step: z.number() }) }),
);
type ManifestEntry = z.infer<typeof manifestSchema>[number];
const STEP_FILE = /^step-(\d+)\.safetensors$/;

/**
 * Finds what a person means: a run directory (its newest recorded checkpoint, else its model), a model directory, or a
 * step-<n>.safetensors of a run.
 * @throws LockstepError LS_EVALUATION_CHECKPOINT (exit code 2), LS_RUN_CONFIG
 */
export function findCheckpoint(given: string): Checkpoint {
  const path = resolve(given);
  if (!existsSync(path)) throw unusable(given, "does not exist");
  if (statSync(path).isFile()) return stepOf(given, path);
  if (existsSync(join(path, "config.json"))) return runOf(given, path);
  if (existsSync(join(path, "model.json"))) return modelOf(given, path);
  throw unusable(given, "holds neither config.json nor model.json");
}

function stepOf(given: string, file: string): Checkpoint {
  const step = STEP_FILE.exec(basename(file))?.[1];
  if (step === undefined) throw unusable(given, "is not a step-<n>.safetensors file");
  const run = dirname(dirname(file));
  if (!existsSync(join(run, "config.json"))) throw unusable(given, "does not lie in a run's checkpoints/ directory");
  const name = `${basename(run)}-step-${step}`;
  return { given, name, weights: { kind: "step", file }, run, config: readConfig(run), step: Number(step) };
}

function runOf(given: string, run: string): Checkpoint {
  const config = readConfig(run);
  const newest = newestStep(run);
  if (newest !== null) {
    const file = join(run, "checkpoints", newest.file);
    return { given, name: basename(run), weights: { kind: "step", file }, run, config, step: newest.tip.step };
  }
  const directory = join(run, "model");
  if (!existsSync(join(directory, "model.json"))) throw unusable(given, "has neither a checkpoint nor a model yet");
  return { given, name: basename(run), weights: { kind: "model", directory }, run, config, step: null };
}

function modelOf(given: string, directory: string): Checkpoint {
  const above = dirname(directory);
  const ofRun = basename(directory) === "model" && existsSync(join(above, "config.json"));
  const run = ofRun ? above : null;
  const name = basename(run ?? directory);
  return {
    given,
    name,
    weights: { kind: "model", directory },
    run,
    config: run === null ? null : readConfig(run),
    step: null,
  };
}

/** The newest checkpoint in the content of a run's manifest.json; null where it has none. @throws ZodError */
export const newestInManifest = (content: unknown): ManifestEntry | null =>
  manifestSchema.parse(content).sort((a, b) => b.tip.step - a.tip.step)[0] ?? null;

function newestStep(run: string): ManifestEntry | null {
  const manifest = join(run, "checkpoints", "manifest.json");
  if (!existsSync(manifest)) return null;
  try {
    return newestInManifest(JSON.parse(readFileSync(manifest, "utf8")));
  } catch (cause) {
    throw new LockstepError("LS_EVALUATION_CHECKPOINT", `${manifest} cannot be read.`, {
      hint: "Name one of the files in checkpoints/ instead.",
      exitCode: 2,
      cause,
    });
  }
}

function readConfig(run: string): Config {
  const file = join(run, "config.json");
  try {
    return configSchema.parse(JSON.parse(readFileSync(file, "utf8")));
  } catch (cause) {
    throw new LockstepError("LS_RUN_CONFIG", `${file} cannot be read or does not fit this version.`, {
      hint: "Give a run that `npx lockstep up` made.",
      exitCode: 2,
      cause,
    });
  }
}

const unusable = (given: string, why: string) =>
  new LockstepError("LS_EVALUATION_CHECKPOINT", `${given} ${why}.`, {
    hint: "Give a run's directory, a model/ directory, or a step-<n>.safetensors file of a run.",
    exitCode: 2,
  });
