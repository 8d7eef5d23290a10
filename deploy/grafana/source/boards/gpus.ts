import type { DashboardSpec } from "../dashboard.ts";
import { line } from "../panels.ts";
import { series } from "../queries.ts";

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
          [[series("lockstep_gpu_utilization_ratio"), "{{worker}} {{gpu}}"]],
          "Share of time in which a kernel ran.",
        ),
        line(
          "Memory",
          "bytes",
          [
            [series("lockstep_gpu_memory_used_bytes"), "{{worker}} {{gpu}} used"],
            [series("lockstep_gpu_memory_size_bytes"), "{{worker}} {{gpu}} size"],
          ],
          "Of the device, by whomever.",
        ),
        line(
          "Power",
          "watt",
          [[series("lockstep_gpu_power_watts"), "{{worker}} {{gpu}}"]],
          "At its limit the clock falls.",
        ),
        line(
          "Temperature",
          "celsius",
          [[series("lockstep_gpu_temperature_celsius"), "{{worker}} {{gpu}}"]],
          "Past 90 degrees LockstepGpuError fires.",
        ),
        line(
          "Clocks",
          "hertz",
          [[series("lockstep_gpu_clock_hertz"), "{{worker}} {{gpu}} {{clock}}"]],
          "One that is lower than the others' explains a straggler.",
        ),
        line(
          "Uncorrected errors",
          "none",
          [[series("lockstep_gpu_uncorrected_errors_total"), "{{worker}} {{gpu}}"]],
          "Any is a reason to take the machine out.",
        ),
      ],
    },
  ],
};
