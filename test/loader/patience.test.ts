import { expect, it } from "vitest";
import { Patience } from "../../worker/loader/patience.ts";

it("is spent by waiting, not by being stopped", () => {
  let now = 0;
  const patience = new Patience(2500, () => now);
  const slices: number[] = [];
  const spend = (takes: number) =>
    patience.spend((millis) => {
      slices.push(millis);
      now += takes;
    });
  spend(3_600_000); // Stopped for an hour inside a wait.
  spend(200); // Woken early.
  now += 3_600_000; // Stopped between two waits.
  expect(patience.over).toBe(false);
  spend(1000);
  expect(patience.over).toBe(false);
  spend(300);
  expect(slices).toEqual([1000, 1000, 1000, 300]);
  expect(patience.over).toBe(true);
});
