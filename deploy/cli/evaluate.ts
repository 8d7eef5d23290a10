import type { Command } from "commander";

/** What a person may say beside the checkpoints. */
export interface EvaluateCommandOptions {
  readonly data?: string;
  readonly temperatureFrom?: string;
  readonly report?: string;
  readonly workers?: string;
  readonly devices: string;
  readonly examine: string;
  readonly regions?: string;
  readonly pictures?: string;
  readonly json: boolean;
}

/** Adds `lockstep evaluate CHECKPOINT…`. */
export function registerEvaluate(program: Command): void {
  program
    .command("evaluate")
    .description("accuracy and maps of models that are there already; of several, a comparison")
    .argument("<checkpoint...>", "a run's directory, a model/ directory, or a step-<n>.safetensors file")
    .option("--data <directory>", "data set in STL-10's layout (default: the run's, and what it held out, if it did)")
    .option("--temperature-from <run>", "a run with --hold-out, to whose held-out images a temperature is fitted")
    .option("--report <directory>", "where reports go (default: evaluation/)")
    .option("--workers <n>", "processes, one core or GPU each (default: cores, as memory allows)")
    .option("--devices <list>", "cpu, or indexes of GPUs (0,1), which processes take in turn", "cpu")
    .option("--examine <n>", "test images whose maps are examined for truth; 0 for none", "100")
    .option("--regions <file>", "regions that people marked in the test images, in the form of stl10_nara.csv")
    .option("--pictures <which>", "also PNG files of images with their maps: all, errors, or places (3,17,200)")
    .option("--json", "one JSON object per line on stdout, people's text on stderr", false)
    .action(async (given: string[], options: EvaluateCommandOptions) => {
      // The report's libraries take longer to load than other commands take to run.
      const { evaluate } = await import("./evaluate-command.ts");
      process.exitCode = await evaluate(given, options);
    });
}
