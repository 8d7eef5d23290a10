import { describe, expect, it } from "vitest";
import { spreadOf } from "../../worker/bench/spread.ts";
import { lockstep } from "../up/support.ts";

interface Figures {
  readonly model: string;
  readonly execution: string;
  readonly parameters: number;
  readonly calls: number;
  readonly operations: number;
  readonly imagesPerSecond: { readonly median: number };
  readonly dispatchMillis: { readonly median: number };
  readonly javascriptMillis: { readonly median: number };
}

describe("bench train", () => {
  it("times each mode and counts the calls into TensorFlow: a graph is one of few", async () => {
    const shape = ["--samples", "2", "--side", "32", "--tries", "2"];
    const run = lockstep(["bench", "train", "--model", "alexnet", "--mode", "eager,graph", ...shape, "--json"]);
    const { code } = await run.ended;
    expect(code, run.err()).toBe(0);
    const lines = run.out().trim().split("\n");
    const [eager, graph] = lines.map((line) => JSON.parse(line) as Figures) as [Figures, Figures];
    expect(lines.length).toBe(2);
    expect([eager.execution, graph.execution]).toEqual(["eager", "graph"]);
    for (const figures of [eager, graph]) {
      expect(figures).toMatchObject({ model: "alexnet", parameters: 1_124_490, samples: 2, side: 32 });
      expect(figures.imagesPerSecond.median).toBeGreaterThan(0);
      expect(figures.dispatchMillis.median).toBeGreaterThan(figures.javascriptMillis.median);
    }
    expect(graph.operations).toBe(0);
    expect(eager.operations).toBeGreaterThan(50);
    expect(graph.calls).toBeLessThan(20);
  });

  it.each([
    ["--model", "vgg"],
    ["--mode", "fast"],
    ["--tries", "0"],
  ])("refuses %s %s in one sentence", async (option, value) => {
    const run = lockstep(["bench", "train", option, value]);
    expect((await run.ended).code).toBe(2);
    expect(run.err()).toMatch(new RegExp(`^${option} .*\\[LS_USAGE\\]\\n$`));
  });
});

it("a spread is the median with the quartiles, in any order of the values", () => {
  expect(spreadOf([5, 1, 4, 2, 3])).toEqual({ median: 3, first: 2, third: 4 });
  expect(spreadOf([7])).toEqual({ median: 7, first: 7, third: 7 });
});
