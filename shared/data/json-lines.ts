import { existsSync, readFileSync } from "node:fs";

export type JsonLine = Readonly<Record<string, unknown>>;

/** Lines of an ndjson file, those that are no JSON objects left out (a crash may cut the last one); none without the file. */
export const readLines = (file: string): JsonLine[] =>
  existsSync(file) ? readFileSync(file, "utf8").split("\n").flatMap(objectIn) : [];

/** The object in a line; nothing where there is none. */
export function objectIn(text: string): JsonLine[] {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? [value as JsonLine] : [];
  } catch {
    return [];
  }
}
