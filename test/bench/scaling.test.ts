import { describe, expect, it } from "vitest";
import { stepMillis } from "../../deploy/bench/measured-run.ts";
import { lockstep } from "../up/support.ts";

describe("bench scaling", () => {
  it("times steps by the mean of those after the warm-up", () => {
    const steps = [0, 900, 1000, 1100, 1300].map((time, step) => ({ step, time, images: 8 }));
    expect(stepMillis(steps, 1)).toBeCloseTo(400 / 3, 9);
    expect(stepMillis(steps, 2)).toBe(150);
  });

  it.each([
    ["--model", "vgg"],
    ["--precision", "float16"],
    ["--workers", "4096"],
  ])("refuses %s %s in one sentence", async (option, value) => {
    const run = lockstep(["bench", "scaling", option, value]);
    expect((await run.ended).code).toBe(2);
    expect(run.err()).toMatch(new RegExp(`^${option} .*\\[LS_USAGE\\]\\n$`));
  });
});
