import { describe, expect, it } from "vitest";
import { leftOver } from "../../deploy/up/go-on.ts";

/** That it goes on for real: test/packages/machines.test.ts. */
describe("up --continue", () => {
  const done = { run: "r", outcome: "done", weightsSha256: "00", accuracy: null };
  const accuracy = { top1: 1, top1Low: 1, top1High: 1, top5: 1 };
  it.each([
    ["unfinished", null, true],
    ["unfinished", { ...done, outcome: "failed" }, true],
    ["unfinished", { ...done, outcome: "stopped" }, false],
    ["unconcluded", { ...done, weightsSha256: null }, false],
    ["unconcluded", done, true],
    ["done", done, false],
    ["done", { ...done, accuracy }, true],
  ] as const)("finds a run %s by %j, where an evaluation belongs to it: %s", (expected, found, evaluates) => {
    expect(leftOver(found as Parameters<typeof leftOver>[0], evaluates)).toBe(expected);
  });
});
