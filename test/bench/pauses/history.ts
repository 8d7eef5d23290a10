/** What a run directory's files say about time, as the measures of pauses need it. Times in milliseconds since 1970. */

/** A line of steps.ndjson: step `step` became final at `time`, which is when the next step was agreed on. */
export interface StepMark {
  readonly step: number;
  readonly time: number;
  /** The view in which it was computed. */
  readonly view: string;
  /** Incarnations that computed its shards. */
  readonly by: readonly string[];
}

/** A line of events.ndjson. */
export interface EventMark {
  readonly time: number;
  readonly term: number;
  readonly type: string;
  readonly [field: string]: unknown;
}

export interface History {
  /** One mark a step, in order, without gaps from the first one on. */
  readonly steps: readonly StepMark[];
  /** In the order in which they happened. */
  readonly events: readonly EventMark[];
}

/** Steps on each side of an event whose median is the normal step there. */
const NEIGHBOURS = 12;

type Line = Readonly<Record<string, unknown>>;

/** Marks of the lines of both files. */
export function historyOf(steps: readonly Line[], events: readonly Line[]): History {
  return {
    steps: steps.map((line) => ({
      step: Number(line.step),
      time: Date.parse(String(line.time)),
      view: String(line.view),
      by: [...new Set((line.shards as readonly { readonly by: string }[]).map(({ by }) => by))],
    })),
    events: events.map((line) => ({
      ...line,
      time: Date.parse(String(line.time)),
      term: Number(line.term),
      type: String(line.type),
    })),
  };
}

export const medianOf = (values: readonly number[]): number => {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
};

/**
 * How long the members were at a step: from the agreement on the step before it to its own, which is what makes the steps
 * before each of them final. Null where one of the two is not among the marks.
 */
export function durationOf({ steps }: History, step: number): number | null {
  const first = steps[0]?.step ?? 0;
  const [before, after] = [steps[step - 2 - first], steps[step - 1 - first]];
  return before === undefined || after === undefined ? null : after.time - before.time;
}

/**
 * The normal duration of a step in `view` around step `near`: the median of its neighbours there, without the view's
 * first steps, which are what is measured. Null where there are fewer than three.
 */
export function normalStep(history: History, view: string, near: number): number | null {
  const inside = history.steps.filter((mark) => mark.view === view).map(({ step }) => step);
  const first = inside[0];
  if (first === undefined) return null;
  const durations = inside
    .filter((step) => step > first + 1)
    .sort((a, b) => Math.abs(a - near) - Math.abs(b - near))
    .slice(0, NEIGHBOURS)
    .map((step) => durationOf(history, step))
    .filter((duration) => duration !== null);
  return durations.length < 3 ? null : medianOf(durations);
}

/** The first event at or after `from` that fits. */
export const eventAfter = (
  { events }: History,
  from: number,
  fits: (event: EventMark) => boolean,
): EventMark | undefined => events.find((event) => event.time >= from && fits(event));
