import { closeSync, openSync, renameSync, rmSync, writeSync } from "node:fs";
import { LockstepError, sentenceOf } from "../../shared/errors.ts";
import type { Incarnation } from "../../shared/protocol/view.ts";
import type { TracePart } from "../../shared/trace/part.ts";
import { version } from "../../shared/version.ts";
import { sentenceOfEvent } from "../account.ts";
import type { RunEvent } from "../machine/state.ts";
import {
  type Alignment,
  alignmentOf,
  type ChromeEvent,
  eventsOf,
  micros,
  type OwnClock,
  processEvents,
} from "./chrome-events.ts";

export interface TraceSources {
  readonly run: string;
  /** Steps whose spans each worker keeps. */
  readonly newestSteps: number;
  /** All parts, from the first one each time. */
  parts(): Iterable<TracePart>;
  /** Every worker of the run by its incarnation, also those that left nothing. */
  readonly names: ReadonlyMap<Incarnation, string>;
  /** What the coordinator said, by wall-clock milliseconds. */
  readonly events: readonly { readonly millis: number; readonly event: RunEvent }[];
  /** The coordinator's clock, which is the trace's. */
  readonly own: OwnClock;
}

/** What the trace says of itself, in `otherData`. */
export interface TraceFacts {
  readonly lockstep: string;
  readonly run: string;
  readonly clock: string;
  /** When the trace begins, by the wall clock of the coordinator's machine. */
  readonly begins: string;
  readonly newestSteps: number;
  readonly workers: readonly (Alignment & {
    readonly name: string;
    readonly incarnation: Incarnation;
    readonly host: string;
    readonly pid: number;
    readonly roundTrips: number;
    /** What the round trips say where the clock is the same one: how good such an estimate is here. */
    readonly estimatedOffsetMillis: number | null;
    readonly estimateUncertaintyMillis: number | null;
    readonly droppedSteps: number;
  })[];
  /** Workers that ended without handing over anything: killed, or cut off. */
  readonly without: readonly string[];
}

const COORDINATOR = 1;
const FIRST_WORKER = 2;
const FLUSH_BYTES = 1 << 20;

/**
 * Writes the trace of a run as one file in the JSON object form of Chrome's format, one event a line; it is there whole
 * or not at all. Memory holds one worker's part at a time.
 * @throws LockstepError LS_TRACE_FILE where the file cannot be written
 */
export function writeTrace(file: string, sources: TraceSources): TraceFacts {
  const temporary = `${file}.partial`;
  try {
    const lines = new Lines(temporary);
    try {
      const facts = fill(lines, sources);
      lines.close();
      renameSync(temporary, file);
      return facts;
    } finally {
      lines.close();
    }
  } catch (cause) {
    rmSync(temporary, { force: true });
    throw new LockstepError("LS_TRACE_FILE", `The trace ${file} was not written: ${sentenceOf(cause)}.`, { cause });
  }
}

function fill(lines: Lines, sources: TraceSources): TraceFacts {
  const { run, newestSteps, names, own } = sources;
  const workers: TraceFacts["workers"][number][] = [];
  let zero = Number.POSITIVE_INFINITY;
  for (const part of sources.parts()) {
    const alignment = alignmentOf(part, own);
    for (const { from } of part.spans) zero = Math.min(zero, from + alignment.offsetMillis);
    workers.push({
      name: part.name,
      incarnation: part.incarnation,
      host: part.host,
      pid: part.pid,
      ...alignment,
      roundTrips: part.skew?.roundTrips ?? 0,
      estimatedOffsetMillis: part.skew?.offsetMillis ?? null,
      estimateUncertaintyMillis: part.skew?.uncertaintyMillis ?? null,
      droppedSteps: part.droppedSteps,
    });
  }
  if (!Number.isFinite(zero)) zero = 0;
  const handed = new Set(workers.map(({ incarnation }) => incarnation));
  const facts: TraceFacts = {
    lockstep: version,
    run,
    clock: "microseconds of the coordinator's machine since the trace begins",
    begins: new Date(zero + own.wallOffset).toISOString(),
    newestSteps,
    workers,
    without: [...names].filter(([incarnation]) => !handed.has(incarnation)).map(([, name]) => name),
  };
  lines.put(`{"displayTimeUnit":"ms","otherData":${JSON.stringify(facts)},"traceEvents":[\n`);
  let first = true;
  const put = (event: ChromeEvent) => {
    lines.put(`${first ? "" : ",\n"}${JSON.stringify(event)}`);
    first = false;
  };
  for (const event of coordinatorEvents(sources, zero)) put(event);
  const nameOf = (incarnation: Incarnation) => names.get(incarnation) ?? incarnation;
  let pid = FIRST_WORKER;
  for (const part of sources.parts()) {
    for (const event of eventsOf(part, pid, alignmentOf(part, own), zero, nameOf)) put(event);
    pid += 1;
  }
  lines.put("\n]}\n");
  return facts;
}

/** What the coordinator said while the trace lasts: instants, and checkpoints from their request to their end. */
function* coordinatorEvents({ events, own }: TraceSources, zero: number): Generator<ChromeEvent> {
  const pid = COORDINATOR;
  yield* processEvents(pid, "coordinator");
  yield { ph: "M", pid, tid: 1, name: "thread_name", args: { name: "events" } };
  yield { ph: "M", pid, tid: 2, name: "thread_name", args: { name: "checkpoints" } };
  let requested: number | null = null;
  for (const { millis, event } of events) {
    const at = micros(millis - own.wallOffset - zero);
    if (event.type === "checkpoint") {
      if (event.state === "requested") requested = at;
      else {
        const ts: number = Math.max(0, requested ?? at);
        const name = `checkpoint ${event.state}`;
        const args = { step: event.step, detail: event.detail };
        if (at >= 0) yield { ph: "X", pid, tid: 2, cat: "checkpoint", name, ts, dur: Math.max(0, at - ts), args };
        requested = null;
      }
      continue;
    }
    const text = sentenceOfEvent(event);
    if (text !== null && at >= 0)
      yield { ph: "i", s: "p", pid, tid: 1, cat: event.type, name: text, ts: at, args: { ...event } };
  }
}

/** Text that goes to a file in large pieces. */
class Lines {
  readonly #descriptor: number;
  #waiting: string[] = [];
  #bytes = 0;
  #closed = false;

  constructor(path: string) {
    this.#descriptor = openSync(path, "w", 0o644);
  }

  put(text: string): void {
    this.#waiting.push(text);
    this.#bytes += text.length;
    if (this.#bytes >= FLUSH_BYTES) this.#flush();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    try {
      this.#flush();
    } finally {
      closeSync(this.#descriptor);
    }
  }

  #flush(): void {
    const bytes = Buffer.from(this.#waiting.join(""));
    for (let at = 0; at < bytes.length; ) at += writeSync(this.#descriptor, bytes, at);
    this.#waiting = [];
    this.#bytes = 0;
  }
}
