/**
 * Every metric of Lockstep, defined once: exporters, documentation and dashboards follow from this table. Names follow
 * Prometheus' rules (prometheus.io/docs/practices/naming): base units, `_total` for counters, `_info` for facts about an
 * object, `_timestamp_seconds` for moments. The values of a label are bounded: `labels` names all of them, or says what
 * bounds them.
 */
export interface MetricDefinition {
  readonly type: "counter" | "gauge";
  /** Which process exports it. */
  readonly part: "worker" | "coordinator" | "both";
  /** Unit of the value; null for counts, states and facts. */
  readonly unit: "seconds" | "bytes" | "ratio" | null;
  readonly help: string;
  /** Label and its values, or in words what they are. */
  readonly labels: Readonly<Record<string, readonly string[] | string>>;
}

type Labels = MetricDefinition["labels"];

const define =
  <const Part extends MetricDefinition["part"]>(part: Part) =>
  <const Type extends MetricDefinition["type"], const L extends Labels>(
    type: Type,
    unit: MetricDefinition["unit"],
    help: string,
    labels: L,
  ) =>
    ({ part, type, unit, help, labels }) as const;

const both = define("both");
const worker = define("worker");
const coordinator = define("coordinator");

/** Why a view took effect; view-reason.ts makes them of the events' sentences. */
export const VIEW_REASONS = [
  "start",
  "take-over",
  "join",
  "level",
  "leave",
  "late",
  "loss",
  "mismatch",
  "balance",
  "stop",
  "other",
] as const;

export const METRICS = {
  lockstep_build_info: both("gauge", null, "Version of the process; always 1.", {
    part: ["worker", "coordinator"],
    version: "one per process",
    node: "one per process",
  }),
  lockstep_run_info: both("gauge", null, "Identity of the run; always 1.", {
    run: "one per process",
    model: "one per process",
    recipe: "one per process",
  }),
  lockstep_nats_connected: both("gauge", null, "1 while the NATS server is connected.", {}),
  lockstep_nats_dropped_messages_total: both(
    "counter",
    null,
    "Broadcast messages that NATS has not taken because it was slow or away.",
    {},
  ),

  lockstep_images_total: worker("counter", null, "Images whose gradients this worker has computed.", {}),
  lockstep_micro_batches_total: worker("counter", null, "Micro-batches that this worker has computed.", {}),
  lockstep_phase_seconds_total: worker("counter", "seconds", "Time of the compute thread by phase of a step.", {
    phase: ["loading", "compute", "update", "hash"],
  }),
  lockstep_shard_seconds: worker("gauge", "seconds", "Median time of one micro-batch over the last ones.", {}),
  lockstep_loader_stalls_total: worker("counter", null, "Micro-batches that compute had to wait for.", {}),
  lockstep_loader_ready: worker("gauge", null, "Micro-batches that are prepared.", {}),
  lockstep_exchange_bytes_total: worker("counter", "bytes", "Bytes exchanged with the other members.", {
    direction: ["sent", "received"],
  }),
  lockstep_exchange_refused_chunks_total: worker("counter", null, "Chunks that were malformed or of another view.", {}),
  lockstep_worker_step: worker("gauge", null, "Steps that are in this worker's state.", {}),
  lockstep_worker_level: worker("gauge", null, "1 while this worker's state is the view's.", {}),

  lockstep_steps_total: coordinator(
    "counter",
    null,
    "Final steps by outcome: applied, or skipped where loss or gradient were not finite.",
    { outcome: ["applied", "skipped"] },
  ),
  lockstep_trained_images_total: coordinator("counter", null, "Images of final steps.", {}),
  lockstep_step: coordinator("gauge", null, "Final steps of the run.", {}),
  lockstep_planned_steps: coordinator("gauge", null, "Steps of the whole run.", {}),
  lockstep_epoch: coordinator("gauge", null, "Epoch of the last final step, counted from 0.", {}),
  lockstep_loss: coordinator("gauge", null, "Mean training loss of the last final step.", {}),
  lockstep_training_accuracy_ratio: coordinator(
    "gauge",
    "ratio",
    "Share of correct training predictions in the last final step.",
    {},
  ),
  lockstep_learning_rate: coordinator("gauge", null, "Learning rate of the last final step.", {}),
  lockstep_gradient_norm: coordinator("gauge", null, "L2 norm of the last final step's mean gradient.", {}),
  lockstep_last_step_timestamp_seconds: coordinator("gauge", "seconds", "When the last step became final.", {}),
  lockstep_members: coordinator("gauge", null, "Workers by state.", {
    state: ["computing", "joining", "standby", "loading", "away"],
  }),
  lockstep_view_number: coordinator("gauge", null, "Number of the present view within its term.", {}),
  lockstep_term: coordinator("gauge", null, "Term of this coordinator.", {}),
  lockstep_view_changes_total: coordinator("counter", null, "Views that took effect, by reason.", {
    planned: ["true", "false"],
    reason: VIEW_REASONS,
  }),
  lockstep_member_losses_total: coordinator("counter", null, "Members that were lost unplanned.", {}),
  lockstep_mismatches_total: coordinator("counter", null, "Steps at which states or data of members differed.", {}),
  lockstep_checkpoints_total: coordinator("counter", null, "Checkpoints by outcome.", {
    outcome: ["stored", "failed"],
  }),
  lockstep_checkpoint_step: coordinator("gauge", null, "Step of the newest checkpoint.", {}),
} as const satisfies Record<`lockstep_${string}`, MetricDefinition>;

/**
 * What Node itself tells about each process, under prom-client's names; the ones that dashboards and alerts build on.
 * Event-loop lag is that of the main thread, which must never block.
 */
export const PROCESS_METRICS = {
  process_cpu_seconds_total: "Time of all threads on processors.",
  process_resident_memory_bytes: "Resident memory.",
  process_open_fds: "Open file descriptors.",
  process_start_time_seconds: "When the process started.",
  nodejs_eventloop_lag_p99_seconds: "99th percentile of the main thread's event-loop delay since the last scrape.",
  nodejs_eventloop_lag_max_seconds: "Longest delay of the main thread's event loop since the last scrape.",
  nodejs_gc_duration_seconds: "Pauses for garbage collection.",
  nodejs_heap_size_used_bytes: "JavaScript heap in use.",
  nodejs_external_memory_bytes: "Memory outside of the heap that JavaScript objects hold.",
} as const;

/** The documentation of all metrics: README.md beside this file, which a test keeps fresh. */
export const metricsDocument = (): string => `# Metrics

Made from table.ts. The coordinator and every worker serve these on \`/metrics\` of their HTTP address (endpoints.json has the
coordinator's, \`npx lockstep status --json\` the workers'), and their health on \`/healthz\`.

${metricsTable()}
`;

/** The tables as Markdown. */
export function metricsTable(): string {
  const labelText = (labels: Labels) =>
    Object.entries(labels)
      .map(([label, values]) => `\`${label}\`: ${typeof values === "string" ? values : values.join(", ")}`)
      .join("; ");
  const own = Object.entries(METRICS).map(
    ([name, { type, part, unit, labels, help }]) =>
      `| \`${name}\` | ${type} | ${part === "both" ? "both" : part} | ${unit ?? ""} | ${labelText(labels)} | ${help} |`,
  );
  const node = Object.entries(PROCESS_METRICS).map(([name, help]) => `| \`${name}\` | ${help} |`);
  return [
    "| metric | type | process | unit | labels | meaning |",
    "|---|---|---|---|---|---|",
    ...own,
    "",
    "| of each process | meaning |",
    "|---|---|",
    ...node,
  ].join("\n");
}
