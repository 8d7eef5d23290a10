import {
  BigValueColorMode,
  BigValueGraphMode,
  LegendDisplayMode,
  LegendPlacement,
  ReduceDataOptionsBuilder,
  TooltipDisplayMode,
  VizLegendOptionsBuilder,
  VizTooltipOptionsBuilder,
} from "@grafana/grafana-foundation-sdk/common";
import { DataqueryBuilder } from "@grafana/grafana-foundation-sdk/prometheus";
import { PanelBuilder as StatBuilder } from "@grafana/grafana-foundation-sdk/stat";
import { PanelBuilder as TimeseriesBuilder } from "@grafana/grafana-foundation-sdk/timeseries";

/** Grafana's names of units. */
export type Unit = "short" | "percentunit" | "s" | "bytes" | "Bps" | "celsius" | "watt" | "hertz" | "none";

/** What a panel shows: the data of a dashboard, apart from how Grafana wants it. */
export interface PanelSpec {
  readonly kind: "line" | "stat";
  readonly title: string;
  /** What the panel says, and what to do when it looks wrong. */
  readonly description: string;
  readonly unit: Unit;
  /** PromQL and legend; `$run` is the chosen run. */
  readonly queries: readonly (readonly [expression: string, legend: string])[];
  /** Columns of 24. */
  readonly width: number;
}

/** One number of each run, six beside each other. */
export const stat = (title: string, unit: Unit, query: string, description: string): PanelSpec => ({
  kind: "stat",
  title,
  unit,
  description,
  queries: [[query, "{{run}}"]],
  width: 4,
});

/** Curves over time, two panels beside each other. */
export const line = (title: string, unit: Unit, queries: PanelSpec["queries"], description: string): PanelSpec => ({
  kind: "line",
  title,
  unit,
  description,
  queries,
  width: 12,
});

/** The data source that the person chose. */
export const SOURCE = { type: "prometheus", uid: "$datasource" } as const;

const STAT_HEIGHT = 4;
const LINE_HEIGHT = 8;

export function panelOf({
  kind,
  title,
  description,
  unit,
  queries,
  width,
}: PanelSpec): StatBuilder | TimeseriesBuilder {
  const targets = queries.map(([expression, legend], index) => {
    const query = new DataqueryBuilder()
      .refId(String.fromCharCode(65 + index))
      .datasource(SOURCE)
      .expr(expression)
      .legendFormat(legend);
    return kind === "stat" ? query.instant() : query.range();
  });
  if (kind === "stat") {
    return new StatBuilder()
      .title(title)
      .description(description)
      .datasource(SOURCE)
      .unit(unit)
      .height(STAT_HEIGHT)
      .span(width)
      .graphMode(BigValueGraphMode.None)
      .colorMode(BigValueColorMode.Value)
      .reduceOptions(new ReduceDataOptionsBuilder().calcs(["lastNotNull"]))
      .targets(targets);
  }
  return new TimeseriesBuilder()
    .title(title)
    .description(description)
    .datasource(SOURCE)
    .unit(unit)
    .height(LINE_HEIGHT)
    .span(width)
    .legend(
      new VizLegendOptionsBuilder()
        .displayMode(LegendDisplayMode.List)
        .placement(LegendPlacement.Bottom)
        .showLegend(true),
    )
    .tooltip(new VizTooltipOptionsBuilder().mode(TooltipDisplayMode.Multi))
    .targets(targets);
}
