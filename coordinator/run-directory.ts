import { appendFileSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Config, configSchema } from "../shared/config/schema.ts";
import { LockstepError } from "../shared/errors.ts";

/** The files of a run, as users find them. */
export class RunDirectory {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
    for (const part of ["logs", "checkpoints", "records", "report"]) mkdirSync(join(path, part), { recursive: true });
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

  /** Appends one JSON line to events.ndjson or steps.ndjson. */
  line(file: "events.ndjson" | "steps.ndjson", value: object): void {
    appendFileSync(this.at(file), `${JSON.stringify(value)}\n`);
  }

  /** Replaces a JSON file in one go. */
  json(file: string, value: object, mode = 0o644): void {
    const path = this.at(file);
    writeFileSync(`${path}.partial`, `${JSON.stringify(value, null, 2)}\n`, { mode });
    renameSync(`${path}.partial`, path);
  }

  has(file: string): boolean {
    return existsSync(this.at(file));
  }
}
