import type { Command } from "commander";
import { parseRunOptions } from "../../shared/config/options.ts";
import { prepareResume } from "../up/prepare.ts";
import { up } from "../up/up.ts";
import { type HereOptions, hereOf, hereOptions } from "./up.ts";

/** Adds `lockstep resume RUN`: a run that was interrupted or has failed goes on from its last checkpoint. */
export function registerResume(program: Command): void {
  const command = program
    .command("resume")
    .description("go on with a run that was interrupted or has failed; its bits stay what they would have been")
    .argument("<run>", "the run's directory, or its id below runs/")
    .option("--workers <n>", "worker processes (default: as before)")
    .option("--min-workers <n>", "workers without which the run waits (default: as before)")
    .option("--data <directory>", "where the run's data set is now (default: where it was)");
  hereOptions(command).action(async (run: string, raw: Record<string, unknown> & HereOptions) => {
    const { workers, minWorkers, data } = parseRunOptions(raw);
    const here = hereOf(raw);
    process.exitCode = await up(() => prepareResume(run, { workers, minWorkers, data }), { ...here, resumed: true });
  });
}
