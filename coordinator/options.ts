import { parseArgs } from "node:util";
import { LockstepError } from "../shared/errors.ts";

export interface CoordinatorOptions {
  /** The run's directory, with config.json. */
  readonly run: string;
  readonly listen: string;
  readonly port: number;
  /** The run is started or resumed by a person; not set when a crashed coordinator is started again. */
  readonly start: boolean;
  readonly insecure: boolean;
}

/** @throws LockstepError LS_USAGE */
export function parseCoordinatorOptions(args: readonly string[]): CoordinatorOptions {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        run: { type: "string" },
        listen: { type: "string", default: "127.0.0.1" },
        port: { type: "string", default: "0" },
        start: { type: "boolean", default: false },
        "insecure-test-network": { type: "boolean", default: false },
      },
    });
    if (values.run === undefined) throw new Error("--run is needed");
    return {
      run: values.run,
      listen: values.listen,
      port: Number(values.port),
      start: values.start,
      insecure: values["insecure-test-network"],
    };
  } catch (cause) {
    throw new LockstepError("LS_USAGE", `${(cause as Error).message}.`, {
      hint: "See `npx lockstep coordinator --help`.",
      exitCode: 2,
      cause,
    });
  }
}
