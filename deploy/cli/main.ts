import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Command } from "commander";
import { LockstepError } from "../../shared/errors.ts";
import { version } from "../../shared/version.ts";
import { cacheDirectory } from "../data/locations.ts";

/** By name, in the order of the help. What one command needs the others do not wait for. */
const COMMANDS: Readonly<Record<string, () => Promise<(program: Command) => void>>> = {
  up: async () => (await import("./up.ts")).registerUp,
  resume: async () => (await import("./resume.ts")).registerResume,
  status: async () => (await import("./status.ts")).registerStatus,
  watch: async () => (await import("./watch.ts")).registerWatch,
  inject: async () => (await import("./inject.ts")).registerInject,
  evaluate: async () => (await import("./evaluate.ts")).registerEvaluate,
  diff: async () => (await import("./diff.ts")).registerDiff,
  bench: async () => (await import("./bench.ts")).registerBench,
  data: async () => (await import("./data.ts")).registerData,
  setup: async () => (await import("./setup.ts")).registerSetup,
  doctor: async () => (await import("./doctor.ts")).registerDoctor,
  coordinator: async () => (await import("./coordinator.ts")).registerCoordinator,
  worker: async () => (await import("./worker.ts")).registerWorker,
  token: async () => (await import("./token.ts")).registerToken,
};

/** The command line: one file for each command; errors become one sentence and an exit code. */
const program = new Command("lockstep")
  .description(
    "Trains image classifiers on many workers in lockstep: the final weights are the same bits, whatever happens to them.",
  )
  .version(version)
  .showHelpAfterError("(see lockstep --help)")
  .exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : 2));

const name = process.argv[2] ?? "";
for (const load of Object.hasOwn(COMMANDS, name) ? [COMMANDS[name]!] : Object.values(COMMANDS)) (await load())(program);
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
