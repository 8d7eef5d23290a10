import { cpus, loadavg } from "node:os";
import { usage } from "../../shared/config/options.ts";
import { BENCH_MODELS } from "../../worker/bench/step-bench.ts";
import { benchScaling, type ScalingFigures } from "../bench/scaling.ts";
import { countOf, listOf, shown } from "./bench-text.ts";

export interface BenchScalingOptions {
  readonly model: string;
  readonly precision: string;
  readonly workers: string;
  readonly batch: string;
  readonly shards: string;
  readonly steps: string;
  readonly tries: string;
  readonly json: boolean;
}

const PRECISIONS = { float32: "float32", bf16: "bf16" } as const;

/**
 * Prints a table in Markdown, or one JSON object for each model and precision.
 * @throws LockstepError LS_USAGE, LS_BENCH
 */
export async function benchScalingCommand(options: BenchScalingOptions): Promise<void> {
  const models = listOf("--model", options.model, BENCH_MODELS);
  const precisions = listOf("--precision", options.precision, PRECISIONS) as (keyof typeof PRECISIONS)[];
  const workers = countOf("--workers", options.workers);
  if (workers > cpus().length) throw usage(`--workers ${workers} is more than the ${cpus().length} cores.`);
  const batch = countOf("--batch", options.batch);
  const shards = countOf("--shards", options.shards);
  const [steps, tries] = [countOf("--steps", options.steps), countOf("--tries", options.tries)];
  if (!options.json) process.stdout.write(`${HEADER}\n`);
  for (const model of models) {
    for (const precision of precisions) {
      const figures = await benchScaling({ model, precision, workers, batch, shards, steps, tries });
      const line = options.json ? JSON.stringify({ ...figures, load: loadavg()[0] }) : row(figures);
      process.stdout.write(`${line}\n`);
    }
  }
  if (options.json) return;
  process.stdout.write(`\nMedians (quartiles) of ${tries} runs of ${steps} steps of ${batch} images in turns, `);
  process.stdout.write(`${shards} shards, worker k on core k, load average ${loadavg()[0]!.toFixed(1)}.\n`);
}

const HEADER = [
  "| model | precision | workers | one, images/s | all | all without exchange | of N times one | of the ceiling | exposed, ms |",
  "|---|---|---:|---:|---:|---:|---:|---:|---:|",
].join("\n");

function row({ model, precision, workers, one, all, ceiling, ofIdeal, ofCeiling, exposedMillis }: ScalingFigures) {
  const rates = [one, all, ceiling].map((rate) => shown(rate, 1));
  const ratios = [shown(ofIdeal, 3), shown(ofCeiling, 3), shown(exposedMillis, 0)];
  return `| ${[model, precision, workers, ...rates, ...ratios].join(" | ")} |`;
}
