import { z } from "zod";
import { LockstepError } from "../errors.ts";

/**
 * Options of a run, as the command line and a --config file of options give them: by their long names in camelCase.
 * Numbers may be written as text.
 */
const number = (least: number, most: number, whole: boolean, words: string) => {
  const inside = (value: number) => value >= least && value <= most && (!whole || Number.isInteger(value));
  return z
    .union([z.number(), z.string().trim().min(1, { error: words })], { error: words })
    .transform(Number)
    .refine(inside, { error: words });
};
const count = () => number(1, 2 ** 31 - 1, true, "a whole number of at least 1");
const text = (words: string) => z.string({ error: words }).min(1, { error: words });
const choice = <const Names extends readonly [string, ...string[]]>(names: Names) =>
  z.enum(names, { error: `one of ${names.join(", ")}` });

const optionsSchema = z
  .object({
    workers: count(),
    minWorkers: count(),
    /** `alexnet`, `resnet` or the path of a module. */
    model: text("a model's name or the path of a JavaScript module"),
    /** Name of a recipe or path of a JSON file of settings. */
    recipe: text("a recipe's name or the path of a JSON file"),
    epochs: number(Number.MIN_VALUE, 1e6, false, "a number above 0"),
    steps: count(),
    batch: count(),
    /** Peak learning rate. */
    lr: number(Number.MIN_VALUE, 1e6, false, "a number above 0"),
    seed: number(0, 0xffffffff, true, "a whole number from 0 to 4294967295"),
    shards: number(1, 65536, true, "a whole number from 1 to 65536"),
    /** Part of the training images that is held out, to choose by; 0 for none. */
    holdOut: number(0, 0.5, false, "a number from 0 to 0.5"),
    /** The fold of the data set that alone is trained on, counted from 1. */
    fold: count(),
    /** Epochs between validations on the held-out images; 0 for none. */
    validateEvery: number(0, 1e6, false, "a number of epochs, or 0"),
    /** Validations without a better one after which the run ends at its best state; 0: it does not. */
    patience: number(0, 1e6, true, "a whole number of validations, or 0"),
    precision: choice(["auto", "float32", "bf16"]),
    execution: choice(["auto", "eager", "graph"]),
    exchange: choice(["all", "none"]),
    data: text("a directory"),
    out: text("a directory"),
    /** false with --no-eval. */
    eval: z.boolean({ error: "true or false" }),
    /** A run that held images out. */
    temperatureFrom: text("a run's directory"),
    listen: text("an address of this machine"),
    trace: text("a file"),
    traceSteps: number(1, 100_000, true, "a whole number from 1 to 100000"),
    config: text("a JSON file"),
  })
  .partial();

export type RunOptions = z.infer<typeof optionsSchema>;

export const OPTION_NAMES: readonly string[] = Object.keys(optionsSchema.shape);

/**
 * Checks options; names that are not options of a run are left out.
 * @throws LockstepError LS_USAGE for the first wrong value, naming the option.
 */
export function parseRunOptions(raw: Readonly<Record<string, unknown>>): RunOptions {
  const parsed = optionsSchema.safeParse(raw);
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    const name = String(issue.path[0]);
    throw usage(`--${kebab(name)} must be ${issue.message}; it is ${JSON.stringify(raw[name])}.`);
  }
  const options = parsed.data;
  if (options.epochs !== undefined && options.steps !== undefined) {
    throw usage("--epochs and --steps exclude each other.", "Give one of them: a run has one length.");
  }
  if (options.fold !== undefined && (options.holdOut ?? 0) > 0) {
    throw usage("--hold-out and --fold exclude each other.", "A fold is evaluated on the test images.");
  }
  return options;
}

const kebab = (name: string) => name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

/** Wrong usage: exit code 2, and where to read on. */
export const usage = (message: string, hint = "See `npx lockstep up --help`.") =>
  new LockstepError("LS_USAGE", message, { hint, exitCode: 2 });
