import { describe, expect, it } from "vitest";
import type { AllreduceFigures } from "../../worker/bench/allreduce.ts";
import { lockstep } from "../up/support.ts";

describe("bench allreduce", () => {
  it("times the exchange between processes beside the same bytes through gRPC alone", async () => {
    const run = lockstep(["bench", "allreduce", "--workers", "3", "--sizes", "0.05,0.2", "--tries", "2", "--json"]);
    const { code } = await run.ended;
    expect(code, run.err()).toBe(0);
    const lines = run.out().trim().split("\n");
    const figures = lines.map((line) => JSON.parse(line) as AllreduceFigures);
    expect(figures.map(({ members, megabytes }) => [members, megabytes])).toEqual([
      [3, 0.05],
      [3, 0.2],
    ]);
    for (const { millis, bareMillis, ofLimit } of figures) {
      expect(millis.median).toBeGreaterThan(0);
      expect(bareMillis.median).toBeGreaterThan(0);
      expect(ofLimit).toBeCloseTo(bareMillis.median / millis.median, 6);
    }
  });

  it.each([
    ["--workers", "1"],
    ["--workers", "9"],
    ["--sizes", "1,,2"],
    ["--wire", "float16"],
  ])("refuses %s %s in one sentence", async (option, value) => {
    const run = lockstep(["bench", "allreduce", option, value]);
    expect((await run.ended).code).toBe(2);
    expect(run.err()).toMatch(new RegExp(`^${option} .*\\[LS_USAGE\\]\\n$`));
  });
});
