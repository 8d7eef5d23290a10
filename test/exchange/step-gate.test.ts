import { beforeEach, describe, expect, it } from "vitest";
import { StepGate } from "../../worker/exchange/step-gate.ts";

let claims: string[] = [];
let gate: StepGate;

beforeEach(() => {
  claims = [];
  gate = new StepGate((view, step) => claims.push(`${view}:${step}`));
});

describe("step gate", () => {
  it("takes the step under way and the one after it, and nothing else", () => {
    gate.begin("a", 5);
    expect([3, 4, 5, 6, 7].map((step) => gate.verdict("a", step))).toEqual([
      "stale",
      "stale",
      "take",
      "take",
      "refuse",
    ]);
    gate.begin("a", 6);
    expect([4, 5, 6, 7, 8].map((step) => gate.verdict("a", step))).toEqual([
      "stale",
      "stale",
      "take",
      "take",
      "refuse",
    ]);
    expect(claims).toEqual(["a:5", "a:6", "a:7"]);
  });

  it("drops everything of a view that was left", () => {
    gate.begin("a", 5);
    gate.begin("b", 5);
    expect([5, 6, 7].map((step) => gate.verdict("a", step))).toEqual(["stale", "stale", "stale"]);
    expect(gate.verdict("b", 5)).toBe("take");
  });

  it("takes the next step of a planned view while its predecessor runs", () => {
    gate.begin("a", 5);
    expect(gate.verdict("b", 6)).toBe("take");
    expect(gate.begin("b", 6)).toEqual([]);
    expect(gate.verdict("b", 6)).toBe("take");
    expect(claims).toEqual(["a:5", "b:6"]);
  });

  it("holds a successor's data while the vector is in use, until its step begins here", () => {
    gate.begin("a", 5);
    expect(gate.verdict("b", 5)).toBe("wait");
    expect(gate.verdict("b", 8)).toBe("wait");
    expect(gate.verdict("b", 9)).toBe("wait");
    gate.begin("b", 5);
    expect(gate.verdict("b", 5)).toBe("take");
  });

  it("lets one of two successors write; the other waits until the first is closed", () => {
    gate.begin("a", 5);
    expect(gate.verdict("b", 6)).toBe("take");
    expect(gate.verdict("c", 6)).toBe("wait");
    gate.close("b");
    expect(gate.verdict("c", 6)).toBe("take");
  });

  it("takes what comes before a worker's first step, for two steps at most", () => {
    expect(gate.verdict("a", 7)).toBe("take");
    expect(gate.verdict("a", 8)).toBe("take");
    expect(gate.verdict("a", 9)).toBe("refuse");
    expect(gate.verdict("a", 5)).toBe("stale");
    expect(gate.verdict("b", 7)).toBe("wait");
    expect(gate.begin("a", 7)).toEqual([]);
    expect(claims).toEqual(["a:7", "a:8"]);
  });

  it("names the views whose data are void when another view takes their vector", () => {
    gate.begin("a", 5);
    expect(gate.verdict("b", 6)).toBe("take");
    // The plan b came to nothing: an unplanned view c begins at the same step.
    expect(gate.begin("c", 6)).toEqual(["b"]);
    expect(gate.verdict("b", 6)).toBe("wait");
    expect(gate.verdict("c", 6)).toBe("take");
    // Back to an older step, from a checkpoint: the same.
    expect(gate.verdict("c", 7)).toBe("take");
    expect(gate.begin("d", 2)).toEqual([]);
    expect(gate.verdict("c", 7)).toBe("stale");
  });
});
