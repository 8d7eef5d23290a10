import { expect, test } from "vitest";
import { windowsOf } from "./monitoring/windows.ts";

test("steps are timed within their turn alone, and turns are paired whatever comes first", () => {
  // 10 ms a step until 100, one of 50 over the border, then 20 ms a step; the last turn has nobody to be paired with.
  const times = [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 140, 160, 180, 200, 220, 230, 240, 250, 260, 300, 320, 340];
  const turns = [
    { on: false, from: 0, to: 100 },
    { on: true, from: 100, to: 220 },
    { on: true, from: 300, to: 340 },
    { on: false, from: 220, to: 260 },
    { on: true, from: 300, to: 340 },
  ];
  expect(windowsOf(times, turns)).toEqual([
    { on: 20, off: 10 },
    { on: 20, off: 10 },
  ]);
});
