import { mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { LockstepError } from "../../shared/errors.ts";
import type { Incarnation } from "../../shared/protocol/view.ts";
import { MOST_PART_BYTES, parsePart, type TracePart } from "../../shared/trace/part.ts";
import { replaceFile } from "../files/durable.ts";

/** Workers' lives that a trace shows at most. */
const MOST_PARTS = 1024;

/** The parts that workers have handed over, each a file until the trace is made of them. */
export class TraceParts {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
    mkdirSync(directory, { recursive: true });
  }

  /**
   * Keeps a worker's part, unread: training may still go on.
   * @param caller whose certificate came with the call; null where none is asked for
   * @throws LockstepError LS_TRACE_PART
   */
  take(incarnation: Incarnation, json: string, caller: Incarnation | null): void {
    if (json.length > MOST_PART_BYTES) throw new LockstepError("LS_TRACE_PART", "A part of the trace is too large.");
    if (!/^[0-9a-f]{16}$/.test(incarnation) || (caller !== null && caller !== incarnation))
      throw new LockstepError("LS_TRACE_PART", "A part of the trace is not that of the worker that hands it over.");
    if (this.#names().length >= MOST_PARTS)
      throw new LockstepError("LS_TRACE_PART", `A trace shows no more than ${MOST_PARTS} workers.`);
    replaceFile(join(this.#directory, `${incarnation}.json`), json);
  }

  /** One after the other, so that memory holds one at a time. One that cannot be read is left out. */
  *read(): Generator<TracePart> {
    for (const name of this.#names()) {
      const part = partIn(join(this.#directory, name));
      if (part !== null) yield part;
    }
  }

  remove(): void {
    rmSync(this.#directory, { recursive: true, force: true });
  }

  #names(): string[] {
    return readdirSync(this.#directory)
      .filter((name) => /^[0-9a-f]{16}\.json$/.test(name))
      .sort();
  }
}

function partIn(file: string): TracePart | null {
  try {
    return parsePart(readFileSync(file, "utf8"));
  } catch {
    return null;
  }
}
