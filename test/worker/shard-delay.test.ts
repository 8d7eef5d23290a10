import { expect, it } from "vitest";
import { initialDelay } from "../../worker/compute/shard-delay.ts";
import { isEvidenceDue } from "../../worker/owed.ts";

it("a delay is meant for one worker: in milliseconds, or as so many times its own duration", () => {
  expect(initialDelay("worker-1", "worker-1:250")).toEqual({ millis: 250, factor: 1 });
  expect(initialDelay("worker-1", "worker-1:x2.5")).toEqual({ millis: 0, factor: 2.5 });
  expect(initialDelay("worker-1", "worker-1:x0")).toEqual({ millis: 0, factor: 1 });
  for (const setting of ["", "worker-0:250", "worker-1:fast", "worker-1:x"]) {
    expect(initialDelay("worker-1", setting)).toEqual({ millis: 0, factor: 1 });
  }
});

it("evidence is in the heartbeats well before the smallest budget of a step is over, and not in short steps", () => {
  const timing = { stepBudgetFloor: 12_000 };
  expect(isEvidenceDue(5_999, timing)).toBe(false);
  expect(isEvidenceDue(6_000, timing)).toBe(true);
});
