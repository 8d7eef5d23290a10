import type { DatasetFacts, MachineFacts, RunFacts } from "../../shared/config/facts.ts";
import type { RunOptions } from "../../shared/config/options.ts";
import { resolveConfig } from "../../shared/config/resolve.ts";

export const STL10: DatasetFacts = {
  directory: "/data/stl10_binary",
  sha256: "ab".repeat(32),
  trainImages: 5000,
  testImages: 8000,
  classes: 10,
  channels: 3,
  height: 96,
  width: 96,
  mean: [0.4467, 0.4398, 0.4066],
  deviation: [0.2603, 0.2566, 0.2713],
};

export const MACHINE: MachineFacts = {
  cores: 2,
  memoryBytes: 24 * 2 ** 30,
  precisions: ["bf16", "float32"],
  executions: ["graph", "eager"],
};

export const RUN: RunFacts = { runId: "quick-1", outDirectory: "/runs/quick-1", nats: null, file: null };

export const resolved = (
  options: RunOptions = {},
  changes: { dataset?: Partial<DatasetFacts>; machine?: Partial<MachineFacts>; run?: Partial<RunFacts> } = {},
) =>
  resolveConfig(
    options,
    { ...STL10, ...changes.dataset },
    { ...MACHINE, ...changes.machine },
    { ...RUN, ...changes.run },
  );
