import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import { METRICS, type MetricDefinition } from "./table.ts";

export { METRICS, type MetricDefinition, metricsTable } from "./table.ts";

type Table = typeof METRICS;
export type MetricName = keyof Table;
type NamesOf<Type extends MetricDefinition["type"]> = {
  [Name in MetricName]: Table[Name]["type"] extends Type ? Name : never;
}[MetricName];
export type CounterName = NamesOf<"counter">;
export type GaugeName = NamesOf<"gauge">;
export type HistogramName = NamesOf<"histogram">;

/** Labels of a metric: each of them, with the values that the table allows. */
export type LabelsOf<Name extends MetricName> = {
  readonly [Label in keyof Table[Name]["labels"]]: Table[Name]["labels"][Label] extends readonly (infer Value)[]
    ? Value
    : string;
};
/** Metrics without labels are set without them. */
type LabelArgument<Name extends MetricName> = keyof Table[Name]["labels"] extends never ? [] : [labels: LabelsOf<Name>];

/**
 * The metrics of one process, as the table defines them. Counters may also take their new total, since the threads that
 * count do so in shared memory. What belongs to the other kind of process is passed over.
 */
export class Metrics {
  readonly registry = new Registry();
  private readonly counters = new Map<string, Counter>();
  private readonly gauges = new Map<string, Gauge>();
  private readonly histograms = new Map<string, Histogram>();
  private readonly totals = new Map<string, number>();

  constructor(part: "worker" | "coordinator") {
    collectDefaultMetrics({ register: this.registry });
    const table: Readonly<Record<string, MetricDefinition>> = METRICS;
    for (const [name, { type, help, labels, part: owner, buckets = [] }] of Object.entries(table)) {
      if (owner !== part && owner !== "both") continue;
      const options = { name, help, labelNames: Object.keys(labels), registers: [this.registry] };
      if (type === "counter") this.counters.set(name, new Counter(options));
      else if (type === "gauge") this.gauges.set(name, new Gauge(options));
      else this.histograms.set(name, new Histogram({ ...options, buckets: [...buckets] }));
      // A series that appears with its first event would hide that event from rate() and increase().
      for (const series of known(labels)) {
        this.counters.get(name)?.inc(series, 0);
        this.histograms.get(name)?.zero(series);
      }
    }
  }

  set<Name extends GaugeName>(name: Name, value: number, ...[labels]: LabelArgument<Name>): void {
    this.gauges.get(name)?.set({ ...labels }, value);
  }

  add<Name extends CounterName>(name: Name, value: number, ...[labels]: LabelArgument<Name>): void {
    this.counters.get(name)?.inc({ ...labels }, value);
  }

  observe<Name extends HistogramName>(name: Name, value: number, ...[labels]: LabelArgument<Name>): void {
    this.histograms.get(name)?.observe({ ...labels }, value);
  }

  /** The series of a gauge whose label values come and go: these and no others. */
  replace<Name extends GaugeName>(name: Name, series: readonly (readonly [LabelsOf<Name>, number])[]): void {
    const gauge = this.gauges.get(name);
    gauge?.reset();
    for (const [labels, value] of series) gauge?.set({ ...(labels as Record<string, string>) }, value);
  }

  /** Takes the series of a counter away whose label value is of no meaning any more. */
  forget<Name extends CounterName>(name: Name, ...[labels]: LabelArgument<Name>): void {
    this.counters.get(name)?.remove({ ...labels });
    this.totals.delete(keyOf(name, labels ?? {}));
  }

  /** Raises a counter to a total that is counted elsewhere; a lower total changes nothing. */
  total<Name extends CounterName>(name: Name, total: number, ...[labels]: LabelArgument<Name>): void {
    const key = keyOf(name, labels ?? {});
    const before = this.totals.get(key) ?? 0;
    if (!(total > before)) return;
    this.counters.get(name)?.inc({ ...labels }, total - before);
    this.totals.set(key, total);
  }
}

/** Every combination of label values, where the table names all of them. */
function known(labels: MetricDefinition["labels"]): Record<string, string>[] {
  let all: Record<string, string>[] = [{}];
  for (const [label, values] of Object.entries(labels)) {
    if (typeof values === "string") return [];
    all = all.flatMap((one) => values.map((value) => ({ ...one, [label]: value })));
  }
  return all;
}

const keyOf = (name: string, labels: object) => `${name}${JSON.stringify(labels)}`;

/** The metrics of a process. */
export const createMetrics = (part: "worker" | "coordinator"): Metrics => new Metrics(part);
