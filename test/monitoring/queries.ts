import { ANNOTATIONS } from "../../deploy/grafana/source/dashboard.ts";
import { DASHBOARDS } from "../../deploy/grafana/source/dashboards.ts";

/** A query of a dashboard. */
export interface BoardQuery {
  readonly dashboard: string;
  readonly panel: string;
  readonly expression: string;
}

/** Every query of every dashboard; annotations once. */
export const QUERIES: readonly BoardQuery[] = [
  ...DASHBOARDS.flatMap(({ name, rows }) =>
    rows.flatMap(({ panels }) =>
      panels.flatMap(({ title, queries }) =>
        queries.map(([expression]) => ({ dashboard: name, panel: title, expression })),
      ),
    ),
  ),
  ...ANNOTATIONS.map(({ name, expression }) => ({ dashboard: "all", panel: `annotation: ${name}`, expression })),
];

/** A query as Grafana would send it about one run. */
export const asked = (expression: string, run: string): string =>
  expression.replaceAll("$run", run).replaceAll("$__rate_interval", "1m").replaceAll("$__interval", "5m");

/** Why a query may have no data in a run on processors. */
export const emptyBecause = ({ dashboard }: BoardQuery): string | null =>
  dashboard === "gpus" ? "the run has no GPU" : null;
