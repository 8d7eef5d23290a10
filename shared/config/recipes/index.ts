import type { Settings } from "../settings.ts";
import { best } from "./best.ts";
import { fast } from "./fast.ts";
import { quick } from "./quick.ts";
import type { NamedRecipe } from "./recipe.ts";
import { reference } from "./reference.ts";

/** The recipes that --recipe names. */
export const RECIPES: Readonly<Record<string, NamedRecipe>> = { quick, reference, fast, best };

export const DEFAULT_RECIPE = "quick";

/** A recipe's settings as they are with this model; undefined: with its own. */
export function settingsWith({ settings, models }: NamedRecipe, model: string | undefined): Settings {
  const other = model !== undefined && models !== undefined && Object.hasOwn(models, model) ? models[model] : {};
  return { ...settings, ...other };
}
