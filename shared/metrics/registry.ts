import { Counter, collectDefaultMetrics, Gauge, Registry } from "prom-client";
import { METRICS, type MetricDefinition } from "./table.ts";

export { METRICS, type MetricDefinition, metricsTable } from "./table.ts";

type Table = typeof METRICS;
export type MetricName = keyof Table;
type NamesOf<Type extends MetricDefinition["type"]> = {
  [Name in MetricName]: Table[Name]["type"] extends Type ? Name : never;
}[MetricName];
export type CounterName = NamesOf<"counter">;
export type GaugeName = NamesOf<"gauge">;

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
  private readonly totals = new Map<string, number>();

  constructor(part: "worker" | "coordinator") {
    collectDefaultMetrics({ register: this.registry });
    for (const [name, { type, help, labels, part: owner }] of Object.entries(METRICS)) {
      if (owner !== part && owner !== "both") continue;
      const options = { name, help, labelNames: Object.keys(labels), registers: [this.registry] };
      if (type === "counter") this.counters.set(name, new Counter(options));
      else this.gauges.set(name, new Gauge(options));
    }
  }

  set<Name extends GaugeName>(name: Name, value: number, ...[labels]: LabelArgument<Name>): void {
    this.gauges.get(name)?.set({ ...labels }, value);
  }

  add<Name extends CounterName>(name: Name, value: number, ...[labels]: LabelArgument<Name>): void {
    this.counters.get(name)?.inc({ ...labels }, value);
  }

  /** Raises a counter to a total that is counted elsewhere; a lower total changes nothing. */
  total<Name extends CounterName>(name: Name, total: number, ...[labels]: LabelArgument<Name>): void {
    const key = `${name}${JSON.stringify(labels ?? {})}`;
    const before = this.totals.get(key) ?? 0;
    if (!(total > before)) return;
    this.counters.get(name)?.inc({ ...labels }, total - before);
    this.totals.set(key, total);
  }
}

/** The metrics of a process. */
export const createMetrics = (part: "worker" | "coordinator"): Metrics => new Metrics(part);
