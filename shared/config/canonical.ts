import { createHash } from "node:crypto";
import type { Recipe } from "./schema.ts";

/** JSON with sorted keys and no spaces: equal values are equal bytes. */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(",")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const entries = Object.entries(value).filter(([, item]) => item !== undefined);
  entries.sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${entries.map(([key, item]) => `${JSON.stringify(key)}:${canonicalJson(item)}`).join(",")}}`;
}

/** SHA-256 of the recipe part, 64 hex digits: runs of one hash have the same bits. */
export const recipeHash = (recipe: Recipe): string => createHash("sha256").update(canonicalJson(recipe)).digest("hex");
