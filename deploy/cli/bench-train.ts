import { loadavg } from "node:os";
import { fileURLToPath } from "node:url";
import { BENCH_MODELS, type BenchMode } from "../../worker/bench/step-bench.ts";
import { benchTrain, type TrainFigures } from "../../worker/bench/train.ts";
import type { BenchTrainOptions } from "./bench.ts";
import { countOf, listOf, shown } from "./bench-text.ts";

const MODES: Readonly<Record<string, BenchMode>> = {
  eager: { execution: "eager", precision: "float32" },
  graph: { execution: "graph", precision: "float32" },
  "graph-bf16": { execution: "graph", precision: "bf16" },
};

/**
 * Prints a table in Markdown, or one JSON object for each model and mode.
 * @throws LockstepError LS_USAGE, LS_RUNTIME, LS_BENCH
 */
export async function benchTrainCommand(options: BenchTrainOptions): Promise<void> {
  const models = listOf("--model", options.model, BENCH_MODELS);
  const modes = listOf("--mode", options.mode, MODES).map((name) => MODES[name]!);
  const shape = { samples: countOf("--samples", options.samples), side: countOf("--side", options.side) };
  const tries = countOf("--tries", options.tries);
  const program = fileURLToPath(new URL("../../worker/bench/train-main.js", import.meta.url));
  if (!options.json) process.stdout.write(`${header}\n`);
  for (const model of models) {
    for (const figures of await benchTrain(program, { model, modes, ...shape, tries })) {
      // How busy the machine was belongs to a figure as much as the machine.
      const line = options.json ? JSON.stringify({ ...figures, load: loadavg()[0] }) : row(figures);
      process.stdout.write(`${line}\n`);
    }
  }
  if (!options.json) {
    process.stdout.write(`\nMedians (quartiles); micro-batches of ${shape.samples} at ${shape.side} x ${shape.side}, `);
    process.stdout.write(`one thread, load average ${loadavg()[0]!.toFixed(1)}.\n`);
  }
}

const header = [
  "| model | mode | images/s | images/CPU s | dispatch, ms | of it JavaScript | calls | first, ms |",
  "|---|---|---:|---:|---:|---:|---:|---:|",
].join("\n");

function row(figures: TrainFigures): string {
  const { model, execution, precision, imagesPerSecond, imagesPerCpuSecond, firstMillis, calls } = figures;
  const { dispatchMillis, javascriptMillis } = figures;
  const cells = [
    model,
    `${execution}, ${precision}`,
    shown(imagesPerSecond, 1),
    shown(imagesPerCpuSecond, 1),
    shown(dispatchMillis, 2),
    javascriptMillis.median.toFixed(2),
    String(calls),
    firstMillis.toFixed(0),
  ];
  return `| ${cells.join(" | ")} |`;
}
