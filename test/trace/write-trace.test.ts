import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { TraceParts } from "../../coordinator/trace/trace-parts.ts";
import { writeTrace } from "../../coordinator/trace/write-trace.ts";
import type { Incarnation } from "../../shared/protocol/view.ts";
import { encodePart, type Span, type TracePart } from "../../shared/trace/part.ts";
import { crossings, readTrace, spansOf, workersIn } from "./support.ts";

const [a, b, c] = ["a", "b", "c"].map((digit) => digit.repeat(16)) as [Incarnation, Incarnation, Incarnation];
const names = new Map([
  [a, "worker-0"],
  [b, "far"],
  [c, "gone"],
]);
const own = { clock: "here", wallOffset: 1_700_000_000_000 };

const span = (track: Span["track"], name: string, from: number, to: number, peer: Incarnation | null = null): Span => ({
  ...{ track, name, from, to, peer },
  ...{ step: 3, detail: {} },
});

const part = (incarnation: Incarnation, more: Partial<TracePart>): TracePart => ({
  ...{ incarnation, name: names.get(incarnation)!, host: "host", pid: 7, clock: "here", wallOffset: own.wallOffset },
  ...{ skew: null, droppedSteps: 0, spans: [] },
  ...more,
});

function directory(): string {
  const path = mkdtempSync(join(tmpdir(), "lockstep-trace-"));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

function written(parts: readonly TracePart[], events: Parameters<typeof writeTrace>[1]["events"] = []) {
  const path = directory();
  const store = new TraceParts(join(path, "parts"));
  for (const one of parts) store.take(one.incarnation, encodePart(one), one.incarnation);
  const file = join(path, "trace.json");
  writeTrace(file, { run: "r", newestSteps: 500, parts: () => store.read(), names, events, own });
  expect(readdirSync(path).sort()).toEqual(["parts", "trace.json"]);
  return readTrace(file);
}

describe("the trace of several machines", () => {
  it("is on the coordinator's clock, by the skew that round trips tell, and says how far that can be off", () => {
    const skew = { offsetMillis: -5_000, uncertaintyMillis: 0.25, roundTrips: 9 };
    const trace = written([
      part(a, { spans: [span("step", "step 3", 1000, 1100), span("wait", "waits", 1040, 1090, b)] }),
      // This machine started five seconds earlier: the same moments have larger numbers there.
      part(b, { clock: "there", skew, droppedSteps: 2, spans: [span("step", "step 3", 6001, 6101)] }),
    ]);
    const [[first], [second]] = [...workersIn(trace)] as [[number, string], [number, string]];
    expect(spansOf(trace, first, "step")[0]).toMatchObject({ ts: 0, dur: 100_000 });
    expect(spansOf(trace, second, "step")[0]).toMatchObject({ ts: 1000, dur: 100_000 });
    expect(spansOf(trace, first, "wait")[0]).toMatchObject({ ts: 40_000, dur: 50_000, args: { peer: "far" } });
    const { workers, without, ...rest } = trace.otherData;
    expect(workers[0]).toMatchObject({ name: "worker-0", method: "same", offsetMillis: 0, uncertaintyMillis: 0 });
    expect(workers[1]).toMatchObject({ name: "far", method: "roundTrips", offsetMillis: -5000, droppedSteps: 2 });
    expect(workers[1]).toMatchObject({ uncertaintyMillis: 0.25, roundTrips: 9 });
    expect(without).toEqual(["gone"]);
    expect(rest).toMatchObject({ begins: new Date(own.wallOffset + 1000).toISOString() });
  });

  it("falls back to wall clocks where no answer came, and says that too", () => {
    const trace = written([
      part(a, { spans: [span("step", "step 3", 1000, 1100)] }),
      part(b, { clock: "there", wallOffset: own.wallOffset - 300, spans: [span("step", "step 3", 1310, 1400)] }),
    ]);
    const pids = [...workersIn(trace).keys()];
    expect(spansOf(trace, pids[1]!, "step")[0]!.ts).toBe(10_000);
    expect(trace.otherData.workers[1]).toMatchObject({ method: "wallClocks", uncertaintyMillis: null });
  });

  it("shows what the coordinator said meanwhile, and checkpoints from request to storage", () => {
    const at = (millis: number) => own.wallOffset + millis;
    const checkpoint = (state: "requested" | "stored") => ({ type: "checkpoint", step: 4, state, detail: "" }) as const;
    const trace = written(
      [part(a, { spans: [span("step", "step 3", 1000, 1100)] })],
      [
        { millis: at(500), event: { type: "phase", phase: "running", detail: "before" } },
        { millis: at(1020), event: checkpoint("requested") },
        { millis: at(1050), event: { type: "mismatch", step: 3, detail: "why" } },
        { millis: at(1080), event: checkpoint("stored") },
      ],
    );
    const said = trace.traceEvents.filter(({ ph }) => ph === "i");
    expect(said).toMatchObject([{ name: "mismatch at step 3: why", ts: 50_000 }]);
    expect(trace.traceEvents.find(({ name }) => name === "checkpoint stored")).toMatchObject({
      ...{ ts: 20_000, dur: 60_000 },
      args: { step: 4 },
    });
  });

  it("gives every peer a row of its own, so that waits for several lie side by side", () => {
    const spans = [
      span("wait", "waits", 10, 30, b),
      span("wait", "waits", 10, 20, c),
      span("wait", "waits", 40, 60, b),
    ];
    const trace = written([part(a, { spans })]);
    expect(crossings(trace)).toEqual([]);
    const rows = trace.traceEvents.filter(({ name, ph }) => ph === "M" && name === "thread_name");
    expect(rows.map(({ args }) => args.name)).toEqual(["events", "checkpoints", "waits for far", "waits for gone"]);
  });

  it("is a trace without events where nobody left anything", () => {
    const trace = written([]);
    expect(trace.otherData.without).toEqual(["worker-0", "far", "gone"]);
    expect(trace.traceEvents.every(({ ph }) => ph === "M")).toBe(true);
  });
});

describe("a worker's part", () => {
  it("is refused under another's name, and left out where it is malformed", () => {
    const store = new TraceParts(join(directory(), "parts"));
    const json = encodePart(part(a, { spans: [span("step", "step 3", 1, 2)] }));
    expect(() => store.take(a, json, b)).toThrow(/not that of the worker/);
    expect(() => store.take("../../etc/passwd" as Incarnation, json, null)).toThrow(/not that of the worker/);
    store.take(a, json, null);
    store.take(b, json.slice(0, -3), b);
    store.take(c, json.replace('"step",null', '"nonsense",null'), c);
    expect([...store.read()].map(({ incarnation }) => incarnation)).toEqual([a]);
    expect([...store.read()][0]!.spans).toEqual([span("step", "step 3", 1, 2)]);
  });

  it("cannot be larger than its bound", () => {
    const store = new TraceParts(join(directory(), "parts"));
    expect(() => store.take(a, "x".repeat((48 << 20) + 1), a)).toThrow(/too large/);
  });
});
