import { existsSync, fstatSync, mkdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import type { Logger } from "pino";
import { type Config, configSchema } from "../../shared/config/schema.ts";
import { LockstepError } from "../../shared/errors.ts";
import { openLog } from "../../shared/process/log.ts";
import { replaceFile } from "./durable.ts";

/**
 * The files of a run, as users find them:
 *
 *     config.json  endpoints.json  summary.json     replaced in one go
 *     events.ndjson  steps.ndjson                   appended, see LineFile and StepsFile
 *     records/  checkpoints/  report/  logs/
 *
 * Two coordinators may have it open at once: who rules is decided by the records alone. The lock that keeps people from
 * starting a run twice belongs to `up`.
 */
export class RunDirectory {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
    for (const part of ["logs", "checkpoints", join("report", "predictions")]) {
      mkdirSync(join(path, part), { recursive: true });
    }
  }

  at(...parts: string[]): string {
    return join(this.path, ...parts);
  }

  /** @throws LockstepError LS_RUN_CONFIG */
  readConfig(): Config {
    const file = this.at("config.json");
    try {
      return configSchema.parse(JSON.parse(readFileSync(file, "utf8")));
    } catch (cause) {
      throw new LockstepError("LS_RUN_CONFIG", `${file} is missing or does not fit this version.`, {
        hint: "Give the directory of a run that `lockstep up` made.",
        exitCode: 2,
        cause,
      });
    }
  }

  writeJson(file: "endpoints.json" | "summary.json", value: object): void {
    replaceFile(this.at(file), `${JSON.stringify(value, null, 2)}\n`);
  }

  /** The predictions of one evaluation batch, until the report is made of them. */
  writePredictions(batch: number, bytes: Buffer): void {
    replaceFile(this.at("report", "predictions", `batch-${batch}.bin`), bytes);
  }

  /**
   * The structured log in logs/coordinator.log. `up` has standard error written there already; whoever runs a coordinator by
   * hand gets the file as well, and sentences on the terminal.
   */
  openLog(): { readonly log: Logger; readonly terminal: boolean } {
    const file = this.at("logs", "coordinator.log");
    const terminal = !isStandardError(file);
    return { log: openLog(terminal ? file : 2, { part: "coordinator", pid: process.pid }), terminal };
  }
}

function isStandardError(file: string): boolean {
  if (!existsSync(file)) return false;
  const [theirs, ours] = [statSync(file), fstatSync(2)];
  return theirs.ino === ours.ino && theirs.dev === ours.dev;
}
