import type { DashboardSpec } from "./dashboard.ts";
import type { PanelSpec, Unit } from "./panels.ts";

/** Series of the chosen run. */
const of = (metric: string, more = "") => `${metric}{run=~"$run", job="lockstep"${more === "" ? "" : `, ${more}`}}`;
const perSecond = (metric: string, more = "") => `rate(${of(metric, more)}[$__rate_interval])`;
/** A recording rule has no job. */
const rule = (name: string) => `${name}{run=~"$run"}`;

const stat = (title: string, unit: Unit, query: string, description: string, width = 4): PanelSpec => ({
  kind: "stat",
  title,
  unit,
  description,
  queries: [[query, "{{run}}"]],
  width,
});
const line = (
  title: string,
  unit: Unit,
  queries: PanelSpec["queries"],
  description: string,
  width = 12,
): PanelSpec => ({ kind: "line", title, unit, description, queries, width });

const quantile = (metric: string, by: string) =>
  `histogram_quantile(0.95, sum by (run, le, ${by}) (rate(${of(`${metric}_bucket`)}[$__rate_interval])))`;

export const OVERVIEW: DashboardSpec = {
  name: "overview",
  title: "Lockstep: a run",
  description: "Is it making progress, how fast, did anything die, are the replicas equal?",
  rows: [
    {
      title: "Now",
      panels: [
        stat(
          "Progress",
          "percentunit",
          `max by (run) (${of("lockstep_step")}) / max by (run) (${of("lockstep_planned_steps")})`,
          "Final steps of all steps.",
        ),
        stat(
          "Images per second",
          "short",
          rule("run:lockstep_trained_images:rate1m"),
          "Images of final steps over the last minute.",
        ),
        stat(
          "Efficiency",
          "percentunit",
          rule("run:lockstep_efficiency:ratio_rate1m"),
          "Share of their time in which workers compute; what is missing to 100 % is exchange, update and waiting.",
        ),
        stat(
          "Workers computing",
          "none",
          `sum by (run) (${of("lockstep_members", 'state="computing"')})`,
          "Members that hold shards.",
        ),
        stat(
          "Since the last step",
          "s",
          `time() - max by (run) (${of("lockstep_last_step_timestamp_seconds")})`,
          "Past 90 s the alert LockstepTrainingStalled fires.",
        ),
        stat(
          "States compared equal",
          "none",
          `sum by (run) (${of("lockstep_hash_checks_total", 'outcome="equal"')})`,
          "Comparisons of lineage and state hash of all members; every step of every worker is one.",
        ),
      ],
    },
    {
      title: "Training",
      panels: [
        line(
          "Loss",
          "short",
          [[`max by (run) (${of("lockstep_loss")})`, "loss"]],
          "Mean training loss of the last final step.",
        ),
        line(
          "Accuracy",
          "percentunit",
          [[`max by (run) (${of("lockstep_training_accuracy_ratio")})`, "training"]],
          "Share of correct training predictions, augmentation and all.",
        ),
        line(
          "Images per second",
          "short",
          [[`sum by (run) (${perSecond("lockstep_trained_images_total")})`, "{{run}}"]],
          "Images of final steps.",
        ),
        line(
          "Learning rate and gradient norm",
          "short",
          [
            [`max by (run) (${of("lockstep_learning_rate")})`, "learning rate"],
            [`max by (run) (${of("lockstep_gradient_norm")})`, "gradient norm"],
          ],
          "A norm that runs away comes before a loss that is not finite.",
        ),
        line(
          "Steps by outcome",
          "short",
          [[`sum by (outcome) (${perSecond("lockstep_steps_total")})`, "{{outcome}}"]],
          "Skipped: loss or gradient was not finite, and the update changed nothing.",
        ),
        line(
          "Epoch and step",
          "none",
          [
            [`max by (run) (${of("lockstep_epoch")})`, "epoch"],
            [`max by (run) (${of("lockstep_step")})`, "step"],
            [`max by (run) (${of("lockstep_checkpoint_step")})`, "checkpoint"],
          ],
          "The checkpoint follows the steps by its interval.",
        ),
      ],
    },
    {
      title: "Membership",
      panels: [
        line(
          "Workers by state",
          "none",
          [[`sum by (state) (${of("lockstep_members")})`, "{{state}}"]],
          "Away: the stream is closed, or silent.",
        ),
        line(
          "Changes of view",
          "none",
          [
            [
              `sum by (planned, reason) (increase(${of("lockstep_view_changes_total")}[5m]))`,
              "{{reason}}, planned: {{planned}}",
            ],
          ],
          "By reason, within 5 minutes.",
        ),
        line(
          "Pause of a change, 95th percentile",
          "s",
          [[quantile("lockstep_pause_seconds", "planned"), "planned: {{planned}}"]],
          "Time without a final step beyond the median step.",
        ),
        line(
          "Losses and mismatches",
          "none",
          [
            [`sum by (worker) (${of("lockstep_member_losses_total")})`, "{{worker}} lost"],
            [`sum by (run) (${of("lockstep_mismatches_total")})`, "mismatches"],
            [`sum by (run) (${of("lockstep_fallbacks_total")})`, "fall-backs"],
          ],
          "Since the coordinator started.",
        ),
        line(
          "Term and view",
          "none",
          [
            [`max by (run) (${of("lockstep_term")})`, "term"],
            [`max by (run) (${of("lockstep_view_number")})`, "view"],
          ],
          "The term grows with every coordinator.",
        ),
        line(
          "Disk and checkpoints",
          "bytes",
          [[`min by (run) (${of("lockstep_disk_free_bytes")})`, "free"]],
          "Room on the disk of the run's directory.",
        ),
      ],
    },
  ],
};

export const WORKERS: DashboardSpec = {
  name: "workers",
  title: "Lockstep: workers and stragglers",
  description: "Who is slow, who waits, who is short of data or memory?",
  rows: [
    {
      title: "Pace",
      panels: [
        line(
          "Straggler ratio",
          "short",
          [[`max by (worker) (${of("lockstep_straggler_ratio")})`, "{{worker}}"]],
          "Median time of a micro-batch over that of the others; past 1.5 for a minute LockstepStragglerPersistent fires.",
        ),
        line(
          "Time of a micro-batch",
          "s",
          [[`max by (worker) (${of("lockstep_shard_seconds")})`, "{{worker}}"]],
          "Median of the last ones.",
        ),
        line(
          "Images per second by worker",
          "short",
          [[rule("worker:lockstep_images:rate1m"), "{{worker}}"]],
          "Images whose gradients each worker computed, repeated steps too.",
        ),
        line(
          "Micro-batches per second",
          "short",
          [[`sum by (worker) (${perSecond("lockstep_micro_batches_total")})`, "{{worker}}"]],
          "As many as it holds shards, each step.",
        ),
        line(
          "Share of time by phase",
          "percentunit",
          [[`avg by (phase) (${perSecond("lockstep_phase_seconds_total")})`, "{{phase}}"]],
          "Mean over the workers; the rest of the time they wait.",
        ),
        line(
          "Step of each worker",
          "none",
          [
            [`max by (worker) (${of("lockstep_worker_step")})`, "{{worker}}"],
            [`min by (worker) (${of("lockstep_worker_level")})`, "{{worker}} level"],
          ],
          "Members are at most one step apart.",
        ),
      ],
    },
    {
      title: "Data",
      panels: [
        line(
          "Waiting for data",
          "percentunit",
          [[rule("worker:lockstep_loading:ratio_rate1m"), "{{worker}}"]],
          "Share of time; past 20 % for three minutes LockstepDataStall fires.",
        ),
        line(
          "Prepared micro-batches and stalls",
          "none",
          [
            [`max by (worker) (${of("lockstep_loader_ready")})`, "{{worker}} ready"],
            [`sum by (worker) (${perSecond("lockstep_loader_stalls_total")})`, "{{worker}} stalls per second"],
          ],
          "Ready ones are made ahead; a stall is one that was not.",
        ),
      ],
    },
    {
      title: "Processes",
      panels: [
        line(
          "Processors",
          "short",
          [[`sum by (part, worker) (${perSecond("process_cpu_seconds_total")})`, "{{part}} {{worker}}"]],
          "Cores in use.",
        ),
        line(
          "Resident memory",
          "bytes",
          [[`max by (part, worker) (${of("process_resident_memory_bytes")})`, "{{part}} {{worker}}"]],
          "Nothing may grow with steps.",
        ),
        line(
          "Event-loop lag, 99th percentile",
          "s",
          [[`max by (part, worker) (${of("nodejs_eventloop_lag_p99_seconds")})`, "{{part}} {{worker}}"]],
          "Of the main threads; past 0.3 s LockstepEventLoopBlocked fires, past 1.5 s of silence a worker is evicted.",
        ),
        line(
          "Tensors and open files",
          "none",
          [
            [`max by (worker) (${of("lockstep_tensors")})`, "{{worker}} tensors"],
            [`max by (part, worker) (${of("process_open_fds")})`, "{{part}} {{worker}} files"],
          ],
          "Both stay level.",
        ),
      ],
    },
  ],
};

export const EXCHANGE: DashboardSpec = {
  name: "exchange",
  title: "Lockstep: exchange",
  description: "What the all-reduce costs, and for whom the others wait.",
  rows: [
    {
      title: "Time",
      panels: [
        line(
          "Exposed exchange",
          "percentunit",
          [
            [rule("worker:lockstep_exchange_exposed:ratio_rate1m"), "{{worker}}"],
            [rule("run:lockstep_exchange_exposed:ratio_rate1m"), "mean"],
          ],
          "Share of time between the end of the own gradients and the commit: exchange that computing does not hide.",
        ),
        line(
          "Waiting for a peer",
          "percentunit",
          [
            [
              `sum by (worker, awaited) (${perSecond("lockstep_exchange_wait_seconds_total")} * on (run, peer) group_left (awaited) label_replace(${of("lockstep_worker_info")}, "awaited", "$1", "worker", "(.*)"))`,
              "{{worker}} for {{awaited}}",
            ],
          ],
          "Share of time until the peer's trailer came. One name in all lines is the straggler.",
        ),
      ],
    },
    {
      title: "Bytes",
      panels: [
        line(
          "Bytes per second",
          "Bps",
          [[`sum by (worker, direction) (${perSecond("lockstep_exchange_bytes_total")})`, "{{worker}} {{direction}}"]],
          "Each member sends about 2(N-1)/N gradients a step.",
        ),
        line(
          "Refused chunks",
          "none",
          [[`sum by (worker) (${of("lockstep_exchange_refused_chunks_total")})`, "{{worker}}"]],
          "Malformed or of another view; a handful after a change of view is no fault.",
        ),
        line(
          "State comparisons per second",
          "short",
          [[`sum by (outcome) (${perSecond("lockstep_hash_checks_total")})`, "{{outcome}}"]],
          "A single different one stops the step: LockstepReplicaMismatch.",
        ),
        line(
          "Broadcast",
          "none",
          [
            [`min by (part, worker) (${of("lockstep_nats_connected")})`, "{{part}} {{worker}} connected"],
            [`sum by (part, worker) (${of("lockstep_nats_dropped_messages_total")})`, "{{part}} {{worker}} dropped"],
          ],
          "Training does not depend on it.",
        ),
      ],
    },
  ],
};

export const GPUS: DashboardSpec = {
  name: "gpus",
  title: "Lockstep: GPUs",
  description: "Whether the GPUs are busy, hot or failing. Empty for runs on processors.",
  rows: [
    {
      title: "GPUs",
      panels: [
        line(
          "Utilisation",
          "percentunit",
          [[of("lockstep_gpu_utilization_ratio"), "{{worker}} {{gpu}}"]],
          "Share of time in which a kernel ran.",
        ),
        line(
          "Memory",
          "bytes",
          [
            [of("lockstep_gpu_memory_used_bytes"), "{{worker}} {{gpu}} used"],
            [of("lockstep_gpu_memory_size_bytes"), "{{worker}} {{gpu}} size"],
          ],
          "Of the device, by whomever.",
        ),
        line(
          "Power",
          "watt",
          [[of("lockstep_gpu_power_watts"), "{{worker}} {{gpu}}"]],
          "At its limit the clock falls.",
        ),
        line(
          "Temperature",
          "celsius",
          [[of("lockstep_gpu_temperature_celsius"), "{{worker}} {{gpu}}"]],
          "Past 90 degrees LockstepGpuError fires.",
        ),
        line(
          "Clocks",
          "hertz",
          [[of("lockstep_gpu_clock_hertz"), "{{worker}} {{gpu}} {{clock}}"]],
          "One that is lower than the others' explains a straggler.",
        ),
        line(
          "Uncorrected errors",
          "none",
          [[of("lockstep_gpu_uncorrected_errors_total"), "{{worker}} {{gpu}}"]],
          "Any is a reason to take the machine out.",
        ),
      ],
    },
  ],
};

export const COMPARE: DashboardSpec = {
  name: "compare",
  title: "Lockstep: compare runs",
  description: "Several runs side by side.",
  manyRuns: true,
  rows: [
    {
      title: "Runs",
      panels: [
        line("Loss", "short", [[`max by (run) (${of("lockstep_loss")})`, "{{run}}"]], "Mean training loss."),
        line(
          "Accuracy",
          "percentunit",
          [[`max by (run) (${of("lockstep_training_accuracy_ratio")})`, "{{run}}"]],
          "On training images, augmentation and all.",
        ),
        line(
          "Images per second",
          "short",
          [[rule("run:lockstep_trained_images:rate1m"), "{{run}}"]],
          "Images of final steps over the last minute.",
        ),
        line(
          "Efficiency",
          "percentunit",
          [[rule("run:lockstep_efficiency:ratio_rate1m"), "{{run}}"]],
          "Share of their time in which workers compute.",
        ),
        line(
          "Workers computing",
          "none",
          [[`sum by (run) (${of("lockstep_members", 'state="computing"')})`, "{{run}}"]],
          "Members that hold shards.",
        ),
        line("Steps", "none", [[`max by (run) (${of("lockstep_step")})`, "{{run}}"]], "Final steps."),
      ],
    },
  ],
};

export const DASHBOARDS: readonly DashboardSpec[] = [OVERVIEW, WORKERS, EXCHANGE, GPUS, COMPARE];
