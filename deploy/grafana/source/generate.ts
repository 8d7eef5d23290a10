import { dashboardOf } from "./dashboard.ts";
import { DASHBOARDS } from "./dashboards.ts";

/** Bytes of each dashboard's file, by its name; `npx vitest run test/monitoring/dashboards --update` writes them. */
export const generated = (): ReadonlyMap<string, string> =>
  new Map(DASHBOARDS.map((spec) => [`${spec.name}.json`, `${JSON.stringify(dashboardOf(spec), null, 2)}\n`]));
