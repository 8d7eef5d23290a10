import { describe, expect, it } from "vitest";
import { compareMaps } from "../../worker/evaluation/map-comparison.ts";
import type { Predictions } from "../../worker/evaluation/predictions.ts";

/** Predictions of two classes: logits by which images are right, and the map of the true class of each. */
function made(right: readonly boolean[], extent: readonly [number, number], maps: readonly number[][]): Predictions {
  const labels = Int32Array.from(right, (_, i) => i % 2);
  const logits = Float32Array.from(right.flatMap((is, i) => ((i % 2 === 0) === is ? [1, 0] : [0, 1])));
  // The map of the predicted class is not looked at.
  const values = Float32Array.from(maps.flatMap((map) => [...map.map(() => 9), ...map]));
  const [height, width] = extent;
  return { samples: right.length, classes: 2, logits, plainLogits: null, labels, maps: { height, width, values } };
}

describe("where two models look, compared", () => {
  const up = [1, 2, 3, 4];
  const down = [4, 3, 2, 1];
  // Spearman by hand: of 1 2 3 4 and 2 1 4 3 it is 1 - 6 * 4 / (4 * 15) = 0.6.
  const swapped = [2, 1, 4, 3];

  it("is the mean rank correlation of their maps of the true class, and that of other images of the class", () => {
    const first = made([true, true, false, true], [2, 2], [up, up, up, up]);
    const second = made([true, true, true, false], [2, 2], [up, swapped, down, up]);
    const { agreement, examples } = compareMaps(first, second, 1)!;
    expect(agreement.same.mean).toBeCloseTo((1 + 0.6 - 1 + 1) / 4, 12);
    // Images 0 and 2 are of one class, 1 and 3 of the other: each is held against the other one's map.
    expect(agreement.other.mean).toBeCloseTo((-1 + 1 + 1 + 0.6) / 4, 12);
    expect(agreement.bothRight).toBeCloseTo(0.8, 12);
    expect(agreement.oneRight).toBeCloseTo(0, 12);
    expect(agreement.neither).toBe(null);
    expect(examples).toEqual({ alike: [0], apart: [1], onlyFirst: [3], onlySecond: [2] });
  });

  it("brings maps of different extent onto the finer grid", () => {
    const fine = Array.from({ length: 16 }, (_, i) => i);
    const first = made([true], [4, 4], [fine]);
    // Rows rise alike in both; within a row the coarse one rises as well.
    const second = made([true], [2, 2], [[1, 2, 3, 4]]);
    expect(compareMaps(first, second, 1)!.agreement.same.mean).toBeGreaterThan(0.9);
  });

  it("does not exist where one of them has no maps", () => {
    const first = made([true], [2, 2], [up]);
    expect(compareMaps(first, { ...first, maps: null }, 1)).toBe(null);
  });
});
