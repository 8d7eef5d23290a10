import { Counter, collectDefaultMetrics, Gauge, Registry } from "prom-client";

/**
 * Every metric of Lockstep, defined once: exporters, documentation and dashboards follow from this table. Names follow
 * Prometheus' rules: base units, `_total` for counters, `_info` for labels of an object, `_timestamp_seconds`.
 */
export interface MetricDefinition {
  readonly type: "counter" | "gauge";
  readonly help: string;
  readonly labels: readonly string[];
  readonly part: "worker" | "coordinator" | "both";
}

const define = (part: MetricDefinition["part"], type: MetricDefinition["type"], help: string, labels: readonly string[] = []) => ({ part, type, help, labels }) as const;

export const METRICS = {
  lockstep_build_info: define("both", "gauge", "Version of the process; always 1.", ["part", "version", "node"]),
  lockstep_run_info: define("both", "gauge", "Identity of the run; always 1.", ["run", "model", "recipe"]),
  lockstep_images_total: define("worker", "counter", "Images whose gradients this worker has computed."),
  lockstep_micro_batches_total: define("worker", "counter", "Micro-batches that this worker has computed."),
  lockstep_phase_seconds_total: define("worker", "counter", "Time of the compute thread by phase of a step.", ["phase"]),
  lockstep_loader_stalls_total: define("worker", "counter", "Micro-batches that compute had to wait for."),
  lockstep_loader_ready: define("worker", "gauge", "Micro-batches that are prepared."),
  lockstep_shard_seconds: define("worker", "gauge", "Median time of one micro-batch over the last ones."),
  lockstep_exchange_bytes_total: define("worker", "counter", "Bytes exchanged with the other members.", ["direction"]),
  lockstep_exchange_refused_chunks_total: define("worker", "counter", "Chunks that were malformed or of another view."),
  lockstep_worker_step: define("worker", "gauge", "Steps that are in this worker's state."),
  lockstep_worker_level: define("worker", "gauge", "1 while this worker's state is the view's."),
  lockstep_steps_total: define("coordinator", "counter", "Final steps by outcome: applied, or skipped where loss or gradient were not finite.", ["outcome"]),
  lockstep_trained_images_total: define("coordinator", "counter", "Images of final steps."),
  lockstep_step: define("coordinator", "gauge", "Final steps of the run."),
  lockstep_planned_steps: define("coordinator", "gauge", "Steps of the whole run."),
  lockstep_epoch: define("coordinator", "gauge", "Epoch of the last final step, counted from 0."),
  lockstep_loss: define("coordinator", "gauge", "Mean training loss of the last final step."),
  lockstep_training_accuracy_ratio: define("coordinator", "gauge", "Share of correct training predictions in the last final step."),
  lockstep_learning_rate: define("coordinator", "gauge", "Learning rate of the last final step."),
  lockstep_gradient_norm: define("coordinator", "gauge", "L2 norm of the last final step's mean gradient."),
  lockstep_last_step_timestamp_seconds: define("coordinator", "gauge", "When the last step became final."),
  lockstep_members: define("coordinator", "gauge", "Workers by state.", ["state"]),
  lockstep_view_number: define("coordinator", "gauge", "Number of the present view within its term."),
  lockstep_term: define("coordinator", "gauge", "Term of this coordinator."),
  lockstep_view_changes_total: define("coordinator", "counter", "Views that took effect.", ["planned"]),
  lockstep_member_losses_total: define("coordinator", "counter", "Members that were lost unplanned."),
  lockstep_mismatches_total: define("coordinator", "counter", "Steps at which states or data of members differed."),
  lockstep_checkpoints_total: define("coordinator", "counter", "Checkpoints by outcome.", ["outcome"]),
  lockstep_checkpoint_step: define("coordinator", "gauge", "Step of the newest checkpoint."),
  lockstep_nats_connected: define("coordinator", "gauge", "1 while the NATS server is connected."),
  lockstep_nats_dropped_messages_total: define("both", "counter", "Broadcast messages that were dropped because NATS was slow or away."),
} as const satisfies Record<`lockstep_${string}`, MetricDefinition>;

export type MetricName = keyof typeof METRICS;
type Labels = Readonly<Record<string, string>>;

/** The metrics of one process. Counters take their new total, since the threads that count do so in shared memory. */
export class Metrics {
  readonly registry = new Registry();
  private readonly counters = new Map<string, Counter>();
  private readonly gauges = new Map<string, Gauge>();
  private readonly totals = new Map<string, number>();

  constructor(part: "worker" | "coordinator") {
    collectDefaultMetrics({ register: this.registry });
    for (const [name, { type, help, labels, part: owner }] of Object.entries(METRICS)) {
      if (owner !== part && owner !== "both") continue;
      const options = { name, help, labelNames: [...labels], registers: [this.registry] };
      if (type === "counter") this.counters.set(name, new Counter(options));
      else this.gauges.set(name, new Gauge(options));
    }
  }

  set(name: MetricName, value: number, labels: Labels = {}): void {
    this.gauges.get(name)?.set(labels, value);
  }

  add(name: MetricName, value: number, labels: Labels = {}): void {
    this.counters.get(name)?.inc(labels, value);
  }

  /** Raises a counter to a total that is counted elsewhere. */
  total(name: MetricName, total: number, labels: Labels = {}): void {
    const key = `${name}${JSON.stringify(labels)}`;
    const before = this.totals.get(key) ?? 0;
    if (total <= before) return;
    this.add(name, total - before, labels);
    this.totals.set(key, total);
  }
}

/** The table as Markdown, for the documentation. */
export function metricsTable(): string {
  const rows = Object.entries(METRICS).map(([name, m]) => `| \`${name}\` | ${m.type} | ${m.part} | ${m.labels.join(", ")} | ${m.help} |`);
  return ["| metric | type | process | labels | meaning |", "|---|---|---|---|---|", ...rows].join("\n");
}
