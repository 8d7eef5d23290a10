import { describe, expect, it } from "vitest";
import { BLOCK } from "../../shared/model/layout.ts";
import type { Incarnation, View } from "../../shared/protocol/view.ts";
import { TraceRecorder } from "../../worker/trace/recorder.ts";
import { StepTrace } from "../../worker/trace/step-trace.ts";

/** A worker's story on a clock that stands still until it is told to go on. */
const [self, peer, third] = ["a", "b", "c"].map((digit) => digit.repeat(16)) as [Incarnation, Incarnation, Incarnation];
const view = (number: number): View => ({ id: { term: 1, number }, predecessor: null, kind: "train", members: [] });
const outcome = { lineage: "", stateHash: "", loss: 2, gradientNorm: Number.NaN, applied: false };

function story() {
  let now = 0;
  const buckets = [
    { index: 0, from: 2 * BLOCK, to: 4 * BLOCK, compressible: true },
    { index: 1, from: 0, to: 2 * BLOCK, compressible: true },
  ];
  const trace = new StepTrace(new TraceRecorder(100, 1000), { buckets }, () => now);
  const at = (time: number) => {
    now = time;
    return trace;
  };
  const begin = (time: number, number: number, step: number) =>
    at(time).does({ kind: "begin", view: view(number), step });
  const computed = (time: number, step: number) =>
    at(time).saw({ kind: "computed", view: view(1).id, step, shards: [], stateHash: "" });
  const trailer = (time: number, from: Incarnation, step: number) => {
    const facts = { view: view(1).id, level: true, lineage: "", stateHash: "", shards: [], plan: null };
    at(time).saw({ kind: "trailer", trailer: { ...facts, from, step } });
  };
  const commit = (time: number, step: number) =>
    at(time).does({ kind: "commit", view: view(1).id, step, parent: "", shards: [] });
  const updated = (time: number, step: number) => at(time).saw({ kind: "updated", view: view(1).id, step, outcome });
  const spans = (track: string) =>
    trace.recorder
      .spans()
      .filter((span) => span.track === track)
      .map(({ name, from, to, peer: other }) => (other === null ? [name, from, to] : [name, from, to, other]));
  return { trace, at, begin, computed, trailer, commit, updated, spans };
}

describe("the trace of a worker", () => {
  it("splits a step into its phases, and says for whom it waited how long", () => {
    const { begin, computed, trailer, commit, updated, spans, trace, at } = story();
    begin(10, 1, 0);
    trailer(20, third, 0);
    computed(50, 0);
    trailer(70, peer, 0);
    at(80).arrived(peer, 0);
    at(85).arrived(peer, 1);
    commit(90, 0);
    updated(100, 0);
    begin(100, 1, 1);
    expect(spans("step")).toEqual([
      ["compute", 10, 50],
      ["exchange", 50, 90],
      ["update", 90, 100],
      ["step 0", 10, 100],
    ]);
    // The third one had sent everything before.
    expect(spans("wait")).toEqual([["waits", 50, 80, peer]]);
    const { detail } = trace.recorder.spans().find(({ name }) => name === "step 0")!;
    expect(detail).toEqual({ view: "1.1", loss: 2, gradientNorm: "NaN", applied: "no" });
  });

  it("shows a change of view from the closing of the word to the step that is done again", () => {
    const { begin, computed, at, spans, commit, updated, trace } = story();
    begin(0, 1, 4);
    computed(30, 4);
    at(40).does({ kind: "close" });
    at(45).does({ kind: "close" });
    begin(60, 2, 4);
    expect(spans("view")).toEqual([
      ["view 1.1", 0, 0],
      ["view 1.2", 40, 60],
    ]);
    expect(spans("step")).toEqual([["step 4", 0, 40]]);
    expect(trace.recorder.spans().find(({ name }) => name === "step 4")!.detail.outcome).toBe("given up");
    // A close that comes into an update waits for it: that step counts.
    computed(70, 4);
    commit(80, 4);
    at(85).does({ kind: "close" });
    updated(90, 4);
    expect(spans("step").at(-1)).toEqual(["step 4", 60, 90]);
  });

  it("shows a pull in place of computing", () => {
    const { begin, at, commit, updated, spans } = story();
    begin(0, 1, 7);
    at(5).does({ kind: "pull", view: view(1), step: 7, from: [] });
    at(25).saw({ kind: "pulled", view: view(1).id, step: 7, stateHash: "", entries: [] });
    commit(40, 7);
    updated(50, 7);
    expect(spans("view")).toContainEqual(["pull state", 5, 25]);
    expect(spans("step").slice(0, 2)).toEqual([
      ["compute", 0, 25],
      ["exchange", 25, 40],
    ]);
  });

  it("names chunks by bucket, and lets those of one peer follow each other", () => {
    const { at, spans } = story();
    const chunk = { step: 3, blocks: 1, nodeFrom: 0, nodeTo: 4 };
    at(20).sent(peer, { ...chunk, kind: "partial", firstBlock: 0 }, 100, 10);
    at(30).sent(peer, { ...chunk, kind: "reduced", firstBlock: 3 }, 100, 11);
    at(30).sent(third, { ...chunk, kind: "reduced", firstBlock: 3 }, 100, 11);
    at(50).received(self, { ...chunk, kind: "partial", firstBlock: 2 }, 100, 45);
    expect(spans("sent")).toEqual([
      ["bucket 1 partial", 10, 20, peer],
      ["bucket 0 reduced", 20, 30, peer],
      ["bucket 0 reduced", 11, 30, third],
    ]);
    expect(spans("received")).toEqual([["bucket 0 partial", 45, 50, self]]);
  });
});
