import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Command } from "commander";
import { LockstepError } from "../../shared/errors.ts";
import { version } from "../../shared/version.ts";
import { cacheDirectory } from "../data/locations.ts";
import { registerBench } from "./bench.ts";
import { registerCoordinator } from "./coordinator.ts";
import { registerData } from "./data.ts";
import { registerDiff } from "./diff.ts";
import { registerDoctor } from "./doctor.ts";
import { registerEvaluate } from "./evaluate.ts";
import { registerInject } from "./inject.ts";
import { registerResume } from "./resume.ts";
import { registerSetup } from "./setup.ts";
import { registerStatus } from "./status.ts";
import { registerToken } from "./token.ts";
import { registerUp } from "./up.ts";
import { registerWatch } from "./watch.ts";
import { registerWorker } from "./worker.ts";

/** The command line: one file for each command; errors become one sentence and an exit code. */
const program = new Command("lockstep")
  .description(
    "Trains image classifiers on many workers in lockstep: the final weights are the same bits, whatever happens to them.",
  )
  .version(version)
  .showHelpAfterError("(see lockstep --help)")
  .exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : 2));

for (const register of [
  registerUp,
  registerResume,
  registerStatus,
  registerWatch,
  registerInject,
  registerEvaluate,
  registerDiff,
  registerBench,
  registerData,
  registerSetup,
  registerDoctor,
  registerCoordinator,
  registerWorker,
  registerToken,
]) {
  register(program);
}
for (const command of program.commands) command.exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : 2));

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof LockstepError) {
    process.stderr.write(`${error.toLine()}\n`);
    process.exitCode = error.exitCode;
  } else {
    const file = join(cacheDirectory(), "last-error.log");
    mkdirSync(cacheDirectory(), { recursive: true });
    writeFileSync(file, String((error as Error).stack ?? error));
    process.stderr.write(
      `Something unexpected happened: ${(error as Error).message}. The details are in ${file}. [LS_UNEXPECTED]\n`,
    );
    process.exitCode = 1;
  }
}
