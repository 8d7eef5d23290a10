import type { DashboardSpec } from "../dashboard.ts";
import { line } from "../panels.ts";
import { perSecond, rule, series } from "../queries.ts";

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
          [[`max by (worker) (${series("lockstep_straggler_ratio")})`, "{{worker}}"]],
          "Median time of a micro-batch over that of the others; past 1.5 for a minute LockstepStragglerPersistent fires.",
        ),
        line(
          "Time of a micro-batch",
          "s",
          [[`max by (worker) (${series("lockstep_shard_seconds")})`, "{{worker}}"]],
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
            [`max by (worker) (${series("lockstep_worker_step")})`, "{{worker}}"],
            [`min by (worker) (${series("lockstep_worker_level")})`, "{{worker}} level"],
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
            [`max by (worker) (${series("lockstep_loader_ready")})`, "{{worker}} ready"],
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
          [[`max by (part, worker) (${series("process_resident_memory_bytes")})`, "{{part}} {{worker}}"]],
          "Nothing may grow with steps.",
        ),
        line(
          "Event-loop lag, 99th percentile",
          "s",
          [[`max by (part, worker) (${series("nodejs_eventloop_lag_p99_seconds")})`, "{{part}} {{worker}}"]],
          "Of the main threads; past 0.3 s LockstepEventLoopBlocked fires, past 1.5 s of silence a worker is evicted.",
        ),
        line(
          "Tensors and open files",
          "none",
          [
            [`max by (worker) (${series("lockstep_tensors")})`, "{{worker}} tensors"],
            [`max by (part, worker) (${series("process_open_fds")})`, "{{part}} {{worker}} files"],
          ],
          "Both stay level.",
        ),
      ],
    },
  ],
};
