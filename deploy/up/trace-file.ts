import { accessSync, constants, existsSync, statSync } from "node:fs";
import { dirname } from "node:path";
import type { Place } from "../../shared/config/schema.ts";
import { LockstepError, sentenceOf } from "../../shared/errors.ts";

/**
 * Says at the beginning of a run, and not at its end, that its trace could not be written.
 * @throws LockstepError LS_TRACE_FILE (exit code 2)
 */
export function checkTraceFile({ trace }: Pick<Place, "trace">): void {
  if (trace === undefined) return;
  const { file } = trace;
  try {
    if (existsSync(file) && !statSync(file).isFile()) throw new Error("it is no file");
    accessSync(existsSync(file) ? file : dirname(file), constants.W_OK);
    accessSync(dirname(file), constants.W_OK);
  } catch (cause) {
    throw new LockstepError("LS_TRACE_FILE", `--trace ${file} cannot be written: ${sentenceOf(cause)}.`, {
      hint: "Give a file in a directory that is there.",
      exitCode: 2,
      cause,
    });
  }
}

/**
 * The trace that a life of a run has left; null where there is none, also where the file is still that of an earlier run.
 * @param since when that life began, in milliseconds since 1970
 */
export function traceFileOf({ trace }: Pick<Place, "trace">, since: number): string | null {
  const written = trace === undefined ? undefined : statSync(trace.file, { throwIfNoEntry: false })?.mtimeMs;
  return trace !== undefined && written !== undefined && written >= since ? trace.file : null;
}
