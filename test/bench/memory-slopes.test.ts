import { expect, it } from "vitest";
import { growthsOf, type Sample, slopeOf } from "./memory/slopes.ts";

it("the slope is that of the line, whatever a few points do", () => {
  expect(
    slopeOf([
      [0, 5],
      [10, 25],
      [30, 65],
    ]),
  ).toBe(2);
  // Seven points on a line of slope 3 and two far off it.
  const points = Array.from({ length: 9 }, (_, x) => [x, 3 * x] as const);
  expect(slopeOf(points.map(([x, y]) => [x, x === 2 || x === 7 ? y + 1000 : y] as const))).toBeCloseTo(3, 5);
  expect(slopeOf([[1, 1]])).toBeNaN();
});

it("growth counts from the middle of the steps on; a thread that never answered is left out", () => {
  const samples: Sample[] = Array.from({ length: 11 }, (_, i) => ({
    step: i * 10,
    // It fills up in the first half, and goes on by 7 bytes a step.
    resident: i < 5 ? i * 100_000 : 500_000 + (i - 5) * 70,
    main: 1000,
    buffers: 50,
    compute: null,
  }));
  expect(growthsOf("coordinator", samples)).toEqual([
    { process: "coordinator", what: "resident", half: 500_000, end: 500_350, slope: 7 },
    { process: "coordinator", what: "main thread", half: 1000, end: 1000, slope: 0 },
    { process: "coordinator", what: "its buffers", half: 50, end: 50, slope: 0 },
  ]);
});
