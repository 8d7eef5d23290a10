import { describe, expect, it } from "vitest";
import { bar, bytes, columns, duration, figure, fit, percent } from "../../deploy/up/text.ts";

describe("numbers for people", () => {
  it.each([
    [0, "0 s"],
    [59.4, "59 s"],
    [59.6, "1 min"],
    [200, "3 min 20 s"],
    [3600, "1 h"],
    [7500, "2 h 5 min"],
    [Number.POSITIVE_INFINITY, "unknown"],
    [-3, "0 s"],
  ])("%d seconds are %s", (seconds, text) => expect(duration(seconds)).toBe(text));

  it.each([
    [0, "0"],
    [2.3061, "2.31"],
    [0.0123, "0.0123"],
    [123.456, "123"],
    [99.96, "100.0"],
    [0.00002, "2.00e-5"],
    [-4.5, "-4.50"],
    [Number.NaN, "-"],
    [null, "-"],
  ])("%d is %s", (value, text) => expect(figure(value)).toBe(text));

  it("bytes come in powers of ten", () => {
    expect([0, 999, 1000, 612_345_678, 2.5e13].map(bytes)).toEqual(["-", "999 B", "1.00 kB", "612 MB", "25.0 TB"]);
  });

  it("shares come in percent and as bars of fixed width", () => {
    expect([percent(0.8638), percent(null)]).toEqual(["86.4 %", "-"]);
    expect([0, 0.5, 1, 7, -1].map((share) => bar(share, 4))).toEqual([
      "[----]",
      "[##--]",
      "[####]",
      "[####]",
      "[----]",
    ]);
  });

  it("columns align words to the left and numbers to the right", () => {
    expect(
      columns(
        [
          ["name", "n"],
          ["a", "100"],
        ],
        [1],
      ),
    ).toEqual(["name    n", "a     100"]);
  });

  it("a line never exceeds the terminal", () => {
    expect([fit("abcdef", 6), fit("abcdef", 4), fit("a", 0)]).toEqual(["abcdef", "abc…", "…"]);
  });
});
