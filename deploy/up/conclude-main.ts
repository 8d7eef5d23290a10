import { parseArgs } from "node:util";
import { LockstepError, sentenceOf } from "../../shared/errors.ts";
import { exitWithParent } from "../../shared/process/parent-watch.ts";
import { conclude } from "./conclude.ts";

/** The process that ends a run: model, report, summary. */
exitWithParent(() => process.exit(130));
try {
  const { values } = parseArgs({ options: { run: { type: "string" } } });
  if (values.run === undefined) throw new LockstepError("LS_USAGE", "--run is needed.", { exitCode: 2 });
  await conclude(values.run);
  // The pipe from the parent would keep the process alive.
  process.exit(0);
} catch (error) {
  process.stderr.write(`${sentenceOf(error)}\n`);
  if (!(error instanceof LockstepError)) process.stderr.write(`${(error as Error).stack}\n`);
  process.exit(error instanceof LockstepError ? error.exitCode : 1);
}
