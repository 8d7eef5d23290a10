import { readFileSync } from "node:fs";

/** Chrome's trace event format, as a reader sees it; written down here again. */
export interface TraceFile {
  readonly displayTimeUnit: string;
  readonly otherData: {
    readonly run: string;
    readonly newestSteps: number;
    readonly without: readonly string[];
    readonly workers: readonly {
      readonly name: string;
      readonly method: string;
      readonly offsetMillis: number;
      readonly uncertaintyMillis: number | null;
      readonly estimatedOffsetMillis: number | null;
      readonly estimateUncertaintyMillis: number | null;
      readonly roundTrips: number;
      readonly droppedSteps: number;
    }[];
  };
  readonly traceEvents: readonly TraceEvent[];
}

export interface TraceEvent {
  readonly ph: string;
  readonly pid: number;
  readonly tid?: number;
  readonly name: string;
  readonly cat?: string;
  /** Microseconds. */
  readonly ts?: number;
  readonly dur?: number;
  readonly args: Readonly<Record<string, unknown>>;
}

export const readTrace = (file: string): TraceFile => JSON.parse(readFileSync(file, "utf8")) as TraceFile;

export const startOf = ({ ts }: TraceEvent): number => ts!;
export const endOf = ({ ts, dur }: TraceEvent): number => ts! + dur!;

/** Is the first inside the second? A nanosecond is lost to rounding. */
export const inside = (inner: TraceEvent, outer: TraceEvent): boolean =>
  startOf(inner) >= startOf(outer) - 0.001 && endOf(inner) <= endOf(outer) + 0.001;

/** Worker's name by process id, from the names that viewers show. */
export function workersIn({ traceEvents }: TraceFile): Map<number, string> {
  const named = traceEvents.filter(({ ph, name }) => ph === "M" && name === "process_name");
  const names = named.map(({ pid, args }) => [pid, String(args.name).split(" ")[0]!] as const);
  return new Map(names.filter(([, name]) => name !== "coordinator"));
}

/** Complete events of one process and category, in the order of their beginning. */
export const spansOf = ({ traceEvents }: TraceFile, pid: number, category: string): TraceEvent[] =>
  traceEvents
    .filter((event) => event.ph === "X" && event.pid === pid && event.cat === category)
    .sort((a, b) => startOf(a) - startOf(b));

/** Where a viewer would show two spans of one row across each other. */
export function crossings({ traceEvents }: TraceFile): string[] {
  const rows = new Map<string, TraceEvent[]>();
  for (const event of traceEvents.filter(({ ph }) => ph === "X")) {
    const key = `${event.pid}/${event.tid}`;
    rows.set(key, [...(rows.get(key) ?? []), event]);
  }
  return [...rows.values()].flatMap((row) => {
    const sorted = row.toSorted((a, b) => startOf(a) - startOf(b) || endOf(b) - endOf(a));
    const open: TraceEvent[] = [];
    return sorted.flatMap((event) => {
      while (open.length > 0 && endOf(open.at(-1)!) <= startOf(event) + 0.001) open.pop();
      const parent = open.at(-1);
      open.push(event);
      return parent === undefined || inside(event, parent) ? [] : [`${parent.name} and ${event.name}`];
    });
  });
}
