import type { Command } from "commander";
import { parseRunOptions } from "../../shared/config/options.ts";
import { prepareResume } from "../up/prepare-resume.ts";
import { up } from "../up/up.ts";
import { type HereOptions, hereOf, hereOptions, recipeOptions } from "./up.ts";

/** Adds `lockstep resume RUN`: a run that was interrupted or has failed goes on from its last checkpoint. */
export function registerResume(program: Command): void {
  const command = recipeOptions(program.command("resume"), "as before; another value needs --fork")
    .description("go on with a run that was interrupted or has failed; its bits stay what they would have been")
    .argument("<run>", "the run's directory, or its id below runs/")
    .option("--workers <n>", "worker processes (default: as before)")
    .option("--min-workers <n>", "workers without which the run waits (default: as before)")
    .option("--data <directory>", "where the run's data set is now (default: where it was)")
    .option("--no-eval", "no evaluation at the end (default: as before)")
    .option(
      "--listen <address>",
      "where coordinator and workers listen; another machine has another one (default: as before)",
    )
    .option("--config <file>", "options by their names, or the config.json of another run; options above beat it")
    .option("--fork", "a new run that begins with this run's last checkpoint, under the recipe that is given", false)
    .option("--out <directory>", "the forked run's directory (default: runs/<run id>)");
  hereOptions(command).action(async (run: string, raw: Record<string, unknown> & HereOptions, self: Command) => {
    const typed = self.getOptionValueSource("eval") === "cli" ? raw : { ...raw, eval: undefined };
    const options = parseRunOptions(typed);
    const fork = raw.fork === true;
    const here = { ...hereOf(raw), resumed: !fork };
    process.exitCode = await up(() => prepareResume(run, options, fork, here.network), here);
  });
}
