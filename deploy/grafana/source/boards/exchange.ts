import type { DashboardSpec } from "../dashboard.ts";
import { line } from "../panels.ts";
import { perSecond, rule, series } from "../queries.ts";

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
              `sum by (worker, awaited) (${perSecond("lockstep_exchange_wait_seconds_total")} * on (run, peer) group_left (awaited) label_replace(${series("lockstep_worker_info")}, "awaited", "$1", "worker", "(.*)"))`,
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
          [[`sum by (worker) (${series("lockstep_exchange_refused_chunks_total")})`, "{{worker}}"]],
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
            [`min by (part, worker) (${series("lockstep_nats_connected")})`, "{{part}} {{worker}} connected"],
            [
              `sum by (part, worker) (${series("lockstep_nats_dropped_messages_total")})`,
              "{{part}} {{worker}} dropped",
            ],
          ],
          "Training does not depend on it.",
        ),
      ],
    },
  ],
};
