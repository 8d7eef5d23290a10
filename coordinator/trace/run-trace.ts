import type { Place } from "../../shared/config/schema.ts";
import { sentenceOf } from "../../shared/errors.ts";
import type { Incarnation } from "../../shared/protocol/view.ts";
import { clockName, wallOffset } from "../../shared/trace/machine-clock.ts";
import type { RunDirectory } from "../files/run-directory.ts";
import { recentEvents } from "../live/history.ts";
import { TraceParts } from "./trace-parts.ts";
import { writeTrace } from "./write-trace.ts";

/** Workers' lives whose names are remembered. */
const MOST_NAMES = 4096;

/** The trace of a run, from the first worker that says hello to the file at the end. */
export class RunTrace {
  readonly parts: TraceParts;
  readonly #options: NonNullable<Place["trace"]>;
  readonly #directory: RunDirectory;
  readonly #run: string;
  readonly #names = new Map<Incarnation, string>();

  constructor(options: NonNullable<Place["trace"]>, directory: RunDirectory, run: string) {
    this.#options = options;
    this.#directory = directory;
    this.#run = run;
    this.parts = new TraceParts(directory.at("trace"));
  }

  /** A worker is there. */
  knows({ incarnation, name }: { readonly incarnation: Incarnation; readonly name: string }): void {
    if (this.#names.size < MOST_NAMES) this.#names.set(incarnation, name);
  }

  /** Everybody has left: makes the file of what they handed over. A trace that fails fails no run: `say` tells why. */
  write(say: (line: string) => void): void {
    const { file, steps } = this.#options;
    try {
      const names = new Map(this.#names);
      for (const { incarnation, name } of this.parts.read()) names.set(incarnation, name);
      const { workers, without } = writeTrace(file, {
        run: this.#run,
        newestSteps: steps,
        parts: () => this.parts.read(),
        names,
        events: recentEvents(this.#directory.at("events.ndjson")).flatMap(({ time, ...event }) => {
          const millis = Date.parse(time);
          return Number.isNaN(millis) ? [] : [{ millis, event }];
        }),
        own: { clock: clockName(), wallOffset: wallOffset() },
      });
      this.parts.remove();
      const missing = without.length === 0 ? "" : `; nothing came from ${without.join(", ")}`;
      say(`trace of ${workers.length} workers in ${file}${missing}`);
    } catch (error) {
      say(sentenceOf(error));
    }
  }
}
