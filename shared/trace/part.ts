import { z } from "zod";
import { LockstepError } from "../errors.ts";
import type { Incarnation } from "../protocol/view.ts";
import { MOST_TEXT } from "../rpc/bounds.ts";

/**
 * What one worker contributes to a trace: the spans of its newest steps, on its own machine's clock, and what is known of
 * that clock. It travels and lies on the disk as JSON; a span is a tuple there, since there are tens of thousands.
 */
export const SPAN_TRACKS = ["step", "compute", "received", "sent", "wait", "view"] as const;
export type SpanTrack = (typeof SPAN_TRACKS)[number];

export interface Span {
  readonly track: SpanTrack;
  /** Incarnation of the worker at the other end; null where there is none. */
  readonly peer: Incarnation | null;
  readonly name: string;
  /** Machine milliseconds. */
  readonly from: number;
  readonly to: number;
  readonly step: number;
  /** What a person may want to know besides. */
  readonly detail: Readonly<Record<string, string | number>>;
}

/** Steps of which a worker keeps the spans, unless --trace-steps says otherwise. */
export const DEFAULT_TRACE_STEPS = 500;
/** Spans that a worker keeps at most, and all workers together: those of the newest steps. */
export const MOST_SPANS = 60_000;
const MOST_SPANS_OF_ALL = 3_000_000;
export const mostSpans = (workers: number): number =>
  Math.min(MOST_SPANS, Math.max(4096, Math.floor(MOST_SPANS_OF_ALL / workers)));
/** Bytes of a part at most. */
export const MOST_PART_BYTES = 48 << 20;

const text = z.string().max(MOST_TEXT);
const incarnation = z.custom<Incarnation>((value) => typeof value === "string" && /^[0-9a-f]{16}$/.test(value));
const whole = z.number().int().min(0);
const millis = z.number();

const spanSchema = z
  .tuple([
    z.enum(SPAN_TRACKS),
    incarnation.nullable(),
    text,
    millis,
    millis,
    whole,
    z.record(text, z.union([text, z.number()])),
  ])
  .transform(([track, peer, name, from, to, step, detail]): Span => ({ track, peer, name, from, to, step, detail }));

const partSchema = z.strictObject({
  incarnation,
  name: text,
  host: text,
  pid: whole,
  /** Name of the machine's clock, and what is to be added to it for wall-clock milliseconds. */
  clock: text,
  wallOffset: millis,
  /** How far the coordinator's clock is ahead. */
  skew: z.strictObject({ offsetMillis: millis, uncertaintyMillis: millis, roundTrips: whole }).nullable(),
  /** Begun steps whose spans were dropped, since newer ones took their place. */
  droppedSteps: whole,
  spans: z.array(spanSchema).max(MOST_SPANS),
});

export type TracePart = z.infer<typeof partSchema>;

export const encodePart = (part: TracePart): string =>
  JSON.stringify({
    ...part,
    spans: part.spans.map(({ track, peer, name, from, to, step, detail }) => [
      track,
      peer,
      name,
      from,
      to,
      step,
      detail,
    ]),
  });

/** @throws LockstepError LS_TRACE_PART */
export function parsePart(json: string): TracePart {
  try {
    return partSchema.parse(JSON.parse(json));
  } catch (cause) {
    throw new LockstepError("LS_TRACE_PART", "A worker's part of the trace is malformed.", { cause });
  }
}
