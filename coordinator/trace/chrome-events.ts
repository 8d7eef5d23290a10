import type { Incarnation } from "../../shared/protocol/view.ts";
import type { Span, SpanTrack, TracePart } from "../../shared/trace/part.ts";

/**
 * Events of the Chrome trace event format ("Trace Event Format", Google, 2016), which chrome://tracing and
 * ui.perfetto.dev read: a worker is a process there, its tracks are threads. Times are microseconds.
 */
export type ChromeEvent = Readonly<Record<string, unknown>> & { readonly ph: "M" | "X" | "i"; readonly pid: number };

/** How a worker's clock is brought in line with the coordinator's. */
export interface Alignment {
  /** `same`: one machine, one clock; `roundTrips`: estimated; `wallClocks`: no answer came, the machines' wall clocks serve. */
  readonly method: "same" | "roundTrips" | "wallClocks";
  /** Milliseconds that are added to the worker's. */
  readonly offsetMillis: number;
  /** null: not known. */
  readonly uncertaintyMillis: number | null;
}

/** Of a machine's clock: its name, and what makes wall-clock milliseconds of it. */
export interface OwnClock {
  readonly clock: string;
  readonly wallOffset: number;
}

export function alignmentOf(part: Pick<TracePart, "clock" | "skew" | "wallOffset">, own: OwnClock): Alignment {
  if (part.clock === own.clock) return { method: "same", offsetMillis: 0, uncertaintyMillis: 0 };
  const { skew } = part;
  if (skew === null) {
    return { method: "wallClocks", offsetMillis: part.wallOffset - own.wallOffset, uncertaintyMillis: null };
  }
  const { offsetMillis, uncertaintyMillis } = skew;
  return { method: "roundTrips", offsetMillis, uncertaintyMillis };
}

const TRACKS: Readonly<Record<SpanTrack, { readonly row: number; readonly title: (peer: string) => string }>> = {
  step: { row: 1, title: () => "steps" },
  compute: { row: 2, title: () => "compute thread" },
  view: { row: 3, title: () => "membership" },
  wait: { row: 1000, title: (peer) => `waits for ${peer}` },
  sent: { row: 100_000, title: (peer) => `sent to ${peer}` },
  received: { row: 200_000, title: () => "received" },
};

/** Thread names and ids of one process: a track has a row, those with a peer one for each peer. */
class Rows {
  readonly #pid: number;
  readonly #nameOf: (peer: Incarnation) => string;
  readonly #rows = new Map<string, number>();
  readonly #peers = new Map<Incarnation, number>();

  constructor(pid: number, nameOf: (peer: Incarnation) => string) {
    this.#pid = pid;
    this.#nameOf = nameOf;
  }

  /** The row of a span, and the events that name it where it is new. */
  of({ track, peer }: Span): { readonly tid: number; readonly naming: readonly ChromeEvent[] } {
    // Everything is received by one thread, one after the other.
    const other = track === "received" ? null : peer;
    const key = `${track} ${other ?? ""}`;
    const known = this.#rows.get(key);
    if (known !== undefined) return { tid: known, naming: [] };
    const { row, title } = TRACKS[track];
    const tid = row + (other === null ? 0 : this.#indexOf(other));
    this.#rows.set(key, tid);
    return { tid, naming: namesOf(this.#pid, tid, title(other === null ? "" : this.#nameOf(other))) };
  }

  #indexOf(peer: Incarnation): number {
    const index = this.#peers.get(peer) ?? this.#peers.size;
    this.#peers.set(peer, index);
    return index;
  }
}

const namesOf = (pid: number, tid: number, name: string): ChromeEvent[] => [
  { ph: "M", pid, tid, name: "thread_name", args: { name } },
  { ph: "M", pid, tid, name: "thread_sort_index", args: { sort_index: tid } },
];

/** How a process is called, and where it stands among the others. */
export const processEvents = (pid: number, name: string): ChromeEvent[] => [
  { ph: "M", pid, name: "process_name", args: { name } },
  { ph: "M", pid, name: "process_sort_index", args: { sort_index: pid } },
];

/**
 * The events of one worker.
 * @param pid of its process in the trace
 * @param zero the coordinator's millisecond that the trace counts from
 * @param nameOf a worker's name by its incarnation
 */
export function* eventsOf(
  part: TracePart,
  pid: number,
  { offsetMillis }: Alignment,
  zero: number,
  nameOf: (incarnation: Incarnation) => string,
): Generator<ChromeEvent> {
  const rows = new Rows(pid, nameOf);
  yield* processEvents(pid, `${part.name} (${part.host}, process ${part.pid})`);
  for (const span of part.spans) {
    const { tid, naming } = rows.of(span);
    yield* naming;
    const { track, peer, name, from, to, step, detail } = span;
    const between = peer === null ? {} : { peer: nameOf(peer) };
    const args = { step, ...between, ...detail };
    const ts = micros(from + offsetMillis - zero);
    yield { ph: "X", pid, tid, cat: track, name, ts, dur: Math.max(0, micros(to + offsetMillis - zero) - ts), args };
  }
}

/** Whole nanoseconds: finer digits are noise, and cost bytes. */
export const micros = (millis: number): number => Math.round(millis * 1e6) / 1e3;
