import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { dashboardOf } from "./dashboard.ts";
import { DASHBOARDS } from "./dashboards.ts";

/** Bytes of each dashboard's file, by its name. */
export const generated = (): ReadonlyMap<string, string> =>
  new Map(DASHBOARDS.map((spec) => [`${spec.name}.json`, `${JSON.stringify(dashboardOf(spec), null, 2)}\n`]));

/** Writes the dashboards into a directory: `node dist/deploy/grafana/source/generate.js deploy/grafana/dashboards`. */
if (process.argv[1]?.endsWith("generate.js")) {
  const [, , directory] = process.argv;
  if (directory === undefined) throw new Error("Say where the dashboards go.");
  mkdirSync(directory, { recursive: true });
  for (const [name, content] of generated()) writeFileSync(join(directory, name), content);
}
