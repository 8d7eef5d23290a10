import type { Command } from "commander";

/** What a person may say beside the two runs. */
export interface DiffCommandOptions {
  readonly data?: string;
  readonly device: string;
  readonly replay: boolean;
  readonly json: boolean;
}

/** Adds `lockstep diff RUN RUN`. */
export function registerDiff(program: Command): void {
  program
    .command("diff")
    .description("where two runs part: the first step, shard and layer, and why; exit code 1 where they do")
    .argument("<run>", "a run's directory, or its id below runs/")
    .argument("<other>", "another one")
    .option("--no-replay", "compare the records only; nothing is computed again, the layer stays unknown")
    .option("--data <directory>", "data set of both runs (default: each run's own)")
    .option("--device <device>", "where the step is computed again: cpu, or the index of a GPU", "cpu")
    .option("--json", "print one JSON object on stdout, people's text on stderr", false)
    .action(async (run: string, other: string, options: DiffCommandOptions) => {
      const { diff } = await import("./diff-command.ts");
      process.exitCode = await diff(run, other, options);
    });
}
