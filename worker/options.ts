import { hostname } from "node:os";
import { parseArgs } from "node:util";
import { LockstepError } from "../shared/errors.ts";

export interface WorkerOptions {
  /** host:port, or the path of the run's endpoints.json. */
  readonly join: string;
  readonly name: string;
  readonly host: string;
  readonly listen: string;
  readonly insecure: boolean;
  /** Overrides of the config's place part on this machine. */
  readonly data: string | null;
}

/** @throws LockstepError LS_USAGE */
export function parseWorkerOptions(args: readonly string[]): WorkerOptions {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        join: { type: "string" },
        name: { type: "string" },
        listen: { type: "string", default: "127.0.0.1" },
        data: { type: "string" },
        "insecure-test-network": { type: "boolean", default: false },
      },
    });
    if (values.join === undefined) throw new Error("--join is needed");
    return {
      join: values.join,
      name: values.name ?? `${hostname()}-${process.pid}`,
      host: hostname(),
      listen: values.listen,
      insecure: values["insecure-test-network"],
      data: values.data ?? null,
    };
  } catch (cause) {
    throw new LockstepError("LS_USAGE", `${(cause as Error).message}.`, {
      hint: "See `npx lockstep worker --help`.",
      exitCode: 2,
      cause,
    });
  }
}
