import {
  AnnotationQueryBuilder,
  type Dashboard,
  DashboardBuilder,
  DashboardCursorSync,
  DashboardLinkBuilder,
  DashboardLinkType,
  DatasourceVariableBuilder,
  QueryVariableBuilder,
  RowBuilder,
  VariableRefresh,
  VariableSort,
} from "@grafana/grafana-foundation-sdk/dashboard";
import { type PanelSpec, panelOf, SOURCE } from "./panels.ts";

export interface DashboardSpec {
  /** Its file, and its address in Grafana behind `lockstep-`. */
  readonly name: string;
  readonly title: string;
  readonly description: string;
  /** Several runs may be chosen at once. */
  readonly manyRuns?: boolean;
  readonly rows: readonly { readonly title: string; readonly panels: readonly PanelSpec[] }[];
}

/** What is marked on every panel: name, colour, the moments, what stands there. */
export const ANNOTATIONS = [
  {
    name: "Changes of view",
    colour: "blue",
    expression: `sum by (run, reason) (increase(lockstep_view_changes_total{run=~"$run", job="lockstep"}[$__interval])) > 0`,
    title: "view: {{reason}}",
  },
  {
    name: "Failures",
    colour: "red",
    expression: `sum by (run, worker) (increase(lockstep_member_losses_total{run=~"$run", job="lockstep"}[$__interval])) > 0`,
    title: "{{worker}} lost",
  },
  {
    name: "Epochs",
    colour: "green",
    expression: `max by (run) (changes(lockstep_epoch{run=~"$run", job="lockstep"}[$__interval])) > 0`,
    title: "epoch of {{run}}",
  },
  {
    name: "Alerts",
    colour: "orange",
    expression: `max by (run, alertname, worker) (ALERTS{run=~"$run", alertstate="firing"})`,
    title: "{{alertname}} {{worker}}",
  },
] as const;

/** A dashboard as Grafana takes it. The same spec gives the same bytes. */
export function dashboardOf({ name, title, description, manyRuns = false, rows }: DashboardSpec): Dashboard {
  const builder = new DashboardBuilder(title)
    .uid(`lockstep-${name}`)
    .description(description)
    .tags(["lockstep"])
    .tooltip(DashboardCursorSync.Crosshair)
    .time({ from: "now-30m", to: "now" })
    .timezone("browser")
    .refresh("10s")
    .withVariable(new DatasourceVariableBuilder("datasource").label("Data source").type("prometheus"))
    .withVariable(
      new QueryVariableBuilder("run")
        .label("Run")
        .datasource(SOURCE)
        .query(`label_values(lockstep_phase{job="lockstep"}, run)`)
        .refresh(VariableRefresh.OnTimeRangeChanged)
        // Run ids sort by time: the newest is chosen first.
        .sort(VariableSort.AlphabeticalDesc)
        .multi(manyRuns)
        .includeAll(manyRuns),
    )
    .link(
      new DashboardLinkBuilder("Lockstep")
        .type(DashboardLinkType.Dashboards)
        .tags(["lockstep"])
        .includeVars(true)
        .keepTime(true),
    );
  for (const { name: mark, colour, expression, title: text } of ANNOTATIONS) {
    builder.annotation(
      new AnnotationQueryBuilder()
        .name(mark)
        .datasource(SOURCE)
        .enable(mark !== "Epochs")
        .iconColor(colour)
        .expr(expression)
        .titleFormat(text)
        .step("10s"),
    );
  }
  for (const row of rows) {
    builder.withRow(new RowBuilder(row.title));
    for (const panel of row.panels) builder.withPanel(panelOf(panel));
  }
  return builder.build();
}
