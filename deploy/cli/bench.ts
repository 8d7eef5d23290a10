import type { Command } from "commander";
import type { BenchAllreduceOptions } from "./bench-allreduce.ts";
import type { BenchScalingOptions } from "./bench-scaling.ts";

/** What a person may say about `bench train`. */
export interface BenchTrainOptions {
  readonly model: string;
  readonly mode: string;
  readonly samples: string;
  readonly side: string;
  readonly tries: string;
  readonly json: boolean;
}

/** Adds `lockstep bench`. */
export function registerBench(program: Command): void {
  const bench = program.command("bench").description("how fast this machine is, medians with quartiles");
  bench
    .command("train")
    .description("gradients of one worker on one thread: images a second, and what the way into TensorFlow costs")
    .option("--model <list>", "alexnet, resnet, resnet11, resnet18", "alexnet,resnet,resnet11,resnet18")
    .option("--mode <list>", "eager, graph, graph-bf16", "eager,graph,graph-bf16")
    .option("--samples <n>", "images of a micro-batch", "16")
    .option("--side <pixels>", "side of the images", "96")
    .option("--tries <n>", "micro-batches that are timed in each mode, in turns", "15")
    .option("--json", "print one JSON object a line on stdout instead of a table", false)
    .action(async (options: BenchTrainOptions) => {
      const { benchTrainCommand } = await import("./bench-train.ts");
      await benchTrainCommand(options);
    });
  bench
    .command("allreduce")
    .description("the exchange between processes on this machine, beside bare gRPC of the same bytes")
    .option("--workers <n>", "processes", "2")
    .option("--sizes <list>", "megabytes of float32 gradients", "1,4,44.7")
    .option("--wire <format>", "float32 or bf16", "float32")
    .option("--tries <n>", "all-reduces of each size that are timed", "20")
    .option("--json", "print one JSON object a line on stdout instead of a table", false)
    .action(async (options: BenchAllreduceOptions) => {
      const { benchAllreduceCommand } = await import("./bench-allreduce.ts");
      await benchAllreduceCommand(options);
    });
  bench
    .command("scaling")
    .description("whole runs: N workers on a core each beside N times one worker, and the compute ceiling")
    .option("--model <list>", "alexnet, resnet, resnet18", "resnet18")
    .option("--precision <list>", "float32, bf16", "float32,bf16")
    .option("--workers <n>", "workers, one core each", "2")
    .option("--batch <b>", "images of a step over all shards", "128")
    .option("--shards <v>", "slices of the training set", "8")
    .option("--steps <s>", "steps that are timed in a run", "6")
    .option("--tries <n>", "runs of each kind, in turns", "5")
    .option("--json", "print one JSON object a line on stdout instead of a table", false)
    .action(async (options: BenchScalingOptions) => {
      const { benchScalingCommand } = await import("./bench-scaling.ts");
      await benchScalingCommand(options);
    });
}
