/**
 * Every metric of Lockstep, defined once: exporters, documentation and dashboards follow from this table. Names follow
 * Prometheus' rules (prometheus.io/docs/practices/naming): base units, `_total` for counters, `_info` for facts about an
 * object, `_timestamp_seconds` for moments. The values of a label are bounded: `labels` names all of them, or says what
 * bounds them.
 */
export interface MetricDefinition {
  readonly type: "counter" | "gauge" | "histogram";
  /** Which process exports it. */
  readonly part: "worker" | "coordinator" | "both";
  /** Unit of the value; null for counts, states and facts. */
  readonly unit: "seconds" | "bytes" | "ratio" | "celsius" | "watts" | "hertz" | null;
  readonly help: string;
  /** Label and its values, or in words what they are. */
  readonly labels: Readonly<Record<string, readonly string[] | string>>;
  /** Upper bounds of a histogram's buckets. */
  readonly buckets?: readonly number[];
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
/** From a hiccup to the patience of a run that waits for workers. */
const coordinatorDurations = <const L extends Labels>(help: string, labels: L) =>
  ({
    part: "coordinator",
    type: "histogram",
    unit: "seconds",
    help,
    labels,
    buckets: [0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5, 10, 30, 60, 300],
  }) as const;

const gpu = { gpu: "one per GPU of the process, by its index" } as const;
const byWorker = { worker: "one per worker of the run, by name; others are called other" } as const;

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

/** Why connections and calls are refused; refusal-code.ts keeps the label to these. */
export const REFUSAL_CODES = [
  // Connections, by the gate of a port.
  "LS_TOO_MANY_CONNECTIONS",
  "LS_PLAIN_TEXT",
  "LS_HANDSHAKE",
  "LS_NO_CERTIFICATE",
  "LS_UNKNOWN_AUTHORITY",
  "LS_UNKNOWN_ROLE",
  "LS_REVOKED",
  "LS_NOT_GRPC",
  // Requests for a certificate.
  "LS_TOO_MANY_JOINS",
  "LS_PROTOCOL",
  "LS_TOKEN_UNKNOWN",
  "LS_TOKEN_EXPIRED",
  "LS_TOKEN_USED",
  "LS_TOKEN_REVOKED",
  // Calls and messages.
  "LS_MALFORMED",
  "LS_NOT_ALLOWED",
  "LS_WRONG_RUN",
  "LS_WRONG_INCARNATION",
  "LS_NOT_A_MEMBER",
  "LS_UNKNOWN_VIEW",
  "LS_TOO_MANY_CALLS",
  "LS_BUSY",
  "LS_DATA_ASKED",
  "LS_VERSION",
  "LS_CODE",
  "other",
] as const;

export const RUN_PHASES = ["forming", "running", "finishing", "evaluating", "finished"] as const;

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
  lockstep_refused_total: both(
    "counter",
    null,
    "Connections, requests to join, calls and sessions that were refused. In a sound run: LS_UNKNOWN_VIEW around changes of view, LS_BUSY, and other where a call came early.",
    { code: REFUSAL_CODES },
  ),
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
  lockstep_exchange_exposed_seconds_total: worker(
    "counter",
    "seconds",
    "Time between the end of this worker's gradients and the commit of the step: exchange that nothing hides.",
    {},
  ),
  lockstep_exchange_wait_seconds_total: worker(
    "counter",
    "seconds",
    "Time from the end of this worker's gradients until the trailer of a peer came; 0 where it was there already.",
    { peer: "one per other member of the view, by incarnation; lockstep_worker_info has the names" },
  ),
  lockstep_hash_checks_total: worker(
    "counter",
    null,
    "Steps whose trailers this worker has compared: lineage and hash of the whole state of every member.",
    { outcome: ["equal", "different"] },
  ),
  lockstep_tensors: worker("gauge", null, "Tensors that TensorFlow holds for this worker.", {}),
  lockstep_gpu_utilization_ratio: worker("gauge", "ratio", "Share of time in which a kernel ran on the GPU.", gpu),
  lockstep_gpu_memory_used_bytes: worker("gauge", "bytes", "Memory of the GPU in use, by whomever.", gpu),
  lockstep_gpu_memory_size_bytes: worker("gauge", "bytes", "Memory of the GPU.", gpu),
  lockstep_gpu_power_watts: worker("gauge", "watts", "Power draw of the GPU.", gpu),
  lockstep_gpu_temperature_celsius: worker("gauge", "celsius", "Temperature of the GPU's core.", gpu),
  lockstep_gpu_clock_hertz: worker("gauge", "hertz", "Clock of the GPU.", { ...gpu, clock: ["sm", "memory"] }),
  lockstep_gpu_uncorrected_errors_total: worker(
    "counter",
    null,
    "Memory errors that the GPU could not correct since the driver was loaded.",
    gpu,
  ),
  lockstep_worker_step: worker("gauge", null, "Steps that are in this worker's state.", {}),
  lockstep_worker_level: worker("gauge", null, "1 while this worker's state is the view's.", {}),

  lockstep_phase: coordinator("gauge", null, "1 for the phase that the run is in, 0 for the others.", {
    phase: RUN_PHASES,
  }),
  lockstep_waiting: coordinator("gauge", null, "1 while the run cannot go on and waits, for workers as a rule.", {}),
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
  lockstep_shards: coordinator("gauge", null, "Shards of the run: no more workers than these help.", {}),
  lockstep_expected_workers: coordinator("gauge", null, "Workers that the run was started with.", {}),
  lockstep_min_workers: coordinator("gauge", null, "Workers without which the run waits.", {}),
  lockstep_worker_info: coordinator("gauge", null, "Names of the present workers; always 1.", {
    ...byWorker,
    peer: "one per worker, its incarnation",
    host: "one per worker",
  }),
  lockstep_worker_missing: coordinator(
    "gauge",
    null,
    "1 for a worker that was lost and has not come back, while fewer are there than the run was started with.",
    byWorker,
  ),
  lockstep_straggler_ratio: coordinator(
    "gauge",
    "ratio",
    "Median time of this worker's micro-batches over the median of the other members': 1 is as fast as they.",
    byWorker,
  ),
  lockstep_view_number: coordinator("gauge", null, "Number of the present view within its term.", {}),
  lockstep_term: coordinator("gauge", null, "Term of this coordinator.", {}),
  lockstep_view_changes_total: coordinator("counter", null, "Views that took effect, by reason.", {
    planned: ["true", "false"],
    reason: VIEW_REASONS,
  }),
  lockstep_pause_seconds: coordinatorDurations(
    "Time without a final step around a change of view, beyond the median step.",
    { planned: ["true", "false"] },
  ),
  lockstep_heal_seconds: coordinatorDurations(
    "Time from the decision to replace a view until its successor is installed: the agreement of an unplanned change.",
    {},
  ),
  lockstep_member_losses_total: coordinator("counter", null, "Members that were lost unplanned.", byWorker),
  lockstep_mismatches_total: coordinator("counter", null, "Steps at which states or data of members differed.", {}),
  lockstep_replicas_healed_total: coordinator(
    "counter",
    null,
    "Times that a mismatch was traced to this worker: the view after it took its state from the others.",
    byWorker,
  ),
  lockstep_checkpoints_total: coordinator("counter", null, "Checkpoints by outcome.", {
    outcome: ["stored", "failed"],
  }),
  lockstep_fallbacks_total: coordinator("counter", null, "Times that the run fell back to a checkpoint.", {}),
  lockstep_checkpoint_step: coordinator("gauge", null, "Step of the newest checkpoint.", {}),
  lockstep_checkpoint_timestamp_seconds: coordinator("gauge", "seconds", "When the newest checkpoint was stored.", {}),
  lockstep_checkpoint_interval_steps: coordinator("gauge", null, "Steps between two checkpoints, as configured.", {}),
  lockstep_checkpoint_write_seconds: coordinatorDurations("Time from asking for a checkpoint until it is stored.", {}),
  lockstep_validation_step: coordinator("gauge", null, "Step of the newest state validated on held-out images.", {}),
  lockstep_validation_accuracy_ratio: coordinator(
    "gauge",
    "ratio",
    "Share of held-out images that the newest validated state recognises.",
    {},
  ),
  lockstep_validation_loss: coordinator("gauge", null, "Mean loss of that state on held-out images.", {}),
  lockstep_validation_seconds: coordinatorDurations(
    "Time from a state's last step being final until its validation is recorded; training goes on meanwhile.",
    {},
  ),
  lockstep_records_stalled: coordinator("gauge", null, "1 while the disk has no room for the run's records.", {}),
  lockstep_disk_free_bytes: coordinator("gauge", "bytes", "Room on the disk of the run's directory.", {}),
  lockstep_disk_size_bytes: coordinator("gauge", "bytes", "Size of the disk of the run's directory.", {}),
  lockstep_evaluation_batches: coordinator("gauge", null, "Batches of test images: evaluated, and in all.", {
    state: ["done", "planned"],
  }),
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

A peer is named by its incarnation, one life of a worker; \`lockstep_worker_info\` of the coordinator has its name:

\`\`\`
rate(lockstep_exchange_wait_seconds_total[1m])
  * on (run, peer) group_left (worker) label_replace(lockstep_worker_info, "by", "$1", "worker", "(.*)")
\`\`\`

Targets carry the labels \`run\`, \`part\` (coordinator or worker) and, of workers, \`worker\` (its name) and \`host\`; see
[deploy/prometheus](../../deploy/prometheus/README.md). GPU metrics come from nvidia-smi, where there is one; NVIDIA's DCGM exporter
can run beside it.

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
