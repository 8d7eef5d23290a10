import { LockstepError, sentenceOf } from "../shared/errors.ts";
import { exitWithParent } from "../shared/process/parent-watch.ts";
import { runCoordinator } from "./coordinator.ts";
import { parseCoordinatorOptions } from "./options.ts";

/** The coordinator process. The first signal stops the run in order, the second one ends the process at once. */
const INTERRUPTED = 130;
let interrupts = 0;

function onStop(stop: (reason: string) => void): void {
  const interrupt = (reason: string) => {
    interrupts += 1;
    if (interrupts > 1) process.exit(INTERRUPTED);
    stop(reason);
  };
  process.on("SIGINT", () => interrupt("interrupted"));
  process.on("SIGTERM", () => interrupt("terminated"));
}

exitWithParent(() => process.exit(INTERRUPTED));
try {
  const outcome = await runCoordinator(parseCoordinatorOptions(process.argv.slice(2)), { onStop });
  if (outcome.kind === "failed") process.stderr.write(`${outcome.message} [${outcome.code}]\n`);
  process.exit(outcome.kind === "failed" ? 1 : interrupts > 0 ? INTERRUPTED : 0);
} catch (error) {
  process.stderr.write(`${sentenceOf(error)}\n`);
  process.exit(error instanceof LockstepError ? error.exitCode : 1);
}
