import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { parse, resolve } from "node:path";
import { z } from "zod";
import { LockstepError } from "../errors.ts";
import { MODELS } from "./models.ts";
import { OPTION_NAMES, parseRunOptions, type RunOptions } from "./options.ts";
import { DEFAULT_RECIPE, RECIPES, settingsWith } from "./recipes/index.ts";
import { type Place, parentSchema, placeSchema, type Recipe, recipeSchema, timingSchema } from "./schema.ts";
import { type Settings, settingsSchema } from "./settings.ts";

/**
 * What a --config file says: options by their names, or what the config.json of a run holds, whole or in part.
 */
export interface ConfigFile {
  readonly path: string;
  readonly options: RunOptions;
  readonly recipe: Partial<Recipe>;
  readonly place: Partial<Omit<Place, "timing">> & { readonly timing?: Partial<Place["timing"]> };
}

const wholeFile = z.strictObject({
  runId: z.string().optional(),
  parent: parentSchema.optional(),
  recipe: recipeSchema.partial().optional(),
  place: placeSchema
    .partial()
    .extend({ timing: z.strictObject(timingSchema.shape).partial().optional() })
    .optional(),
});

/**
 * Reads a --config file.
 * @throws LockstepError LS_CONFIG_FILE where it cannot be read, is not JSON or has an unknown or wrong entry.
 */
export function readConfigFile(path: string): ConfigFile {
  const value = readObject(path);
  const whole = typeof value.recipe === "object" || typeof value.place === "object";
  if (!whole) {
    const unknown = Object.keys(value).find((name) => !OPTION_NAMES.includes(name) || name === "config");
    if (unknown !== undefined) throw wrongFile(path, `"${unknown}" is not an option`);
    try {
      return { path, options: parseRunOptions(value), recipe: {}, place: {} };
    } catch (error) {
      throw error instanceof LockstepError ? wrongFile(path, error.message.replace(/\.$/, "")) : error;
    }
  }
  const { recipe = {}, place = {} } = parseWith(wholeFile, path, value);
  return {
    path,
    options: {},
    recipe: defined(recipe) as Partial<Recipe>,
    place: defined(place) as ConfigFile["place"],
  };
}

/**
 * The settings of a recipe with a model: by its name, or from a JSON file whose entries replace those of the default recipe.
 * @param model that --model names; undefined for the recipe's own
 * @throws LockstepError LS_CONFIG_RECIPE for an unknown name, LS_CONFIG_FILE for a wrong file.
 */
export function readRecipe(nameOrFile: string, model: string | undefined): Settings {
  const named = Object.hasOwn(RECIPES, nameOrFile) ? RECIPES[nameOrFile] : undefined;
  if (named !== undefined) return settingsWith(named, model);
  if (!isPath(nameOrFile)) {
    throw new LockstepError("LS_CONFIG_RECIPE", `There is no recipe "${nameOrFile}".`, {
      hint: `Use ${Object.keys(RECIPES).join(", ")} or the path of a JSON file of settings.`,
      exitCode: 2,
    });
  }
  const given = parseWith(settingsSchema.partial(), nameOrFile, readObject(nameOrFile));
  const base = settingsWith(RECIPES[DEFAULT_RECIPE]!, model);
  return { ...base, recipe: parse(nameOrFile).name, ...(defined(given) as Partial<Settings>) };
}

/** A user's own model: the absolute path of its module and the SHA-256 of the source. */
export interface ModelFile {
  readonly path: string;
  readonly sha256: string;
}

/**
 * The module that --model names, or null where it is the name of a model.
 * @throws LockstepError LS_MODEL_FILE where it cannot be read.
 */
export function readModelFile(nameOrFile: string): ModelFile | null {
  if (!isPath(nameOrFile)) return null;
  const path = resolve(nameOrFile);
  try {
    return { path, sha256: createHash("sha256").update(readFileSync(path)).digest("hex") };
  } catch (cause) {
    throw new LockstepError("LS_MODEL_FILE", `The model file ${path} cannot be read: ${reason(cause)}.`, {
      hint: `Give the path of a JavaScript module, or one of ${MODELS.join(", ")}.`,
      exitCode: 2,
      cause,
    });
  }
}

const isPath = (text: string) => /[/\\]|\.(json|m?js)$/.test(text);
const reason = (cause: unknown) => (cause instanceof Error && "code" in cause ? String(cause.code) : String(cause));
const defined = (value: object) => Object.fromEntries(Object.entries(value).filter(([, item]) => item !== undefined));

function readObject(path: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(path, "utf8"));
  } catch (cause) {
    throw wrongFile(path, cause instanceof SyntaxError ? `it is not JSON (${cause.message})` : reason(cause), cause);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw wrongFile(path, "it is not an object");
  return value as Record<string, unknown>;
}

function parseWith<T>(schema: z.ZodType<T>, path: string, value: unknown): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const { path: at, message } = parsed.error.issues[0]!;
  throw wrongFile(path, at.length === 0 ? message : `"${at.join(".")}": ${message}`);
}

const wrongFile = (path: string, what: string, cause?: unknown) =>
  new LockstepError("LS_CONFIG_FILE", `${path} cannot be used: ${what}.`, {
    hint: "It should hold options by their names, or what the config.json of a run holds.",
    exitCode: 2,
    cause,
  });
