import { describe, expect, it } from "vitest";
import type { Span } from "../../shared/trace/part.ts";
import { TraceRecorder } from "../../worker/trace/recorder.ts";

const span = (step: number, name = "x"): Span => ({
  ...{ track: "compute", peer: null, detail: {} },
  ...{ name, step, from: step, to: step + 1 },
});
const stepsIn = (recorder: TraceRecorder) => recorder.spans().map(({ step }) => step);

describe("a worker's spans", () => {
  it("are those of the newest steps", () => {
    const recorder = new TraceRecorder(3, 1000);
    for (let step = 0; step < 10; step++) {
      recorder.begin();
      recorder.add(span(step, "a"));
      recorder.add(span(step, "b"));
    }
    expect(stepsIn(recorder)).toEqual([7, 7, 8, 8, 9, 9]);
    // What came before the first step counts as one.
    expect(recorder.droppedSteps).toBe(8);
  });

  it("are bounded in number, oldest steps first, whatever a step holds", () => {
    const recorder = new TraceRecorder(1000, 10);
    for (let step = 0; step < 6; step++) {
      recorder.begin();
      for (let i = 0; i < 4; i++) recorder.add(span(step));
      expect(recorder.spans().length).toBeLessThanOrEqual(10);
    }
    expect(stepsIn(recorder)).toEqual([4, 4, 4, 4, 5, 5, 5, 5]);
    for (let i = 0; i < 1000; i++) recorder.add(span(6, String(i)));
    expect(recorder.spans().length).toBeLessThanOrEqual(10);
    expect(recorder.spans().at(-1)!.name).toBe("999");
  });
});
