import { describe, expect, it } from "vitest";
import { examplesOf, type Judged, pairExamples, surestErrors } from "../../worker/evaluation/examples.ts";

/** Images 0 to 7 of class 0, 8 to 9 of class 1; 5, 6 and 7 are errors. */
const judged: Judged = {
  labels: Int32Array.of(0, 0, 0, 0, 0, 0, 0, 0, 1, 1),
  predicted: Int32Array.of(0, 0, 0, 0, 0, 1, 1, 2, 1, 1),
  confidences: Float64Array.of(0.9, 0.5, 0.7, 0.8, 0.6, 0.55, 0.95, 0.75, 0.4, 0.4),
  surprisals: Float64Array.of(0.1, 0.7, 0.35, 0.2, 0.5, 1.2, 4, 2, 0.9, 0.9),
};

describe("examples of a class", () => {
  it("hold no image twice, and the same ones for the same seed", () => {
    for (let seed = 0; seed < 20; seed++) {
      const { best, worst, random } = examplesOf(judged, 0, 2, seed);
      const all = [...best, ...worst, ...random];
      expect(new Set(all).size).toBe(6);
      expect(all.every((image) => judged.labels[image] === 0)).toBe(true);
      expect(examplesOf(judged, 0, 2, seed)).toEqual({ label: 0, best, worst, random });
    }
  });

  it("are the surest right ones and the least probable ones, apart from what was drawn", () => {
    const { best, worst, random } = examplesOf(judged, 0, 2, 3);
    const left = (order: readonly number[]) => order.filter((image) => !random.includes(image)).slice(0, 2);
    expect(best).toEqual(left([0, 3, 2, 4, 1]));
    expect(worst).toEqual(left([6, 7, 5, 1, 4].filter((image) => !best.includes(image))));
  });

  it("are drawn evenly: each image of the class about equally often", () => {
    const drawn = new Map<number, number>();
    for (let seed = 0; seed < 4000; seed++) {
      for (const image of examplesOf(judged, 0, 2, seed).random) drawn.set(image, (drawn.get(image) ?? 0) + 1);
    }
    // 8 images, 2 of them a draw: 1,000 each; six standard deviations are 165.
    expect([...drawn.keys()].sort()).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    for (const count of drawn.values()) expect(Math.abs(count - 1000)).toBeLessThan(165);
  });

  it("are fewer where the class is small or absent", () => {
    const { best, worst, random } = examplesOf(judged, 1, 3, 0);
    expect([...random, ...best, ...worst].sort()).toEqual([8, 9]);
    expect(examplesOf(judged, 2, 3, 0)).toEqual({ label: 2, best: [], worst: [], random: [] });
  });
});

it("errors come surest first, of all classes or of one pair", () => {
  expect(surestErrors(judged, 2)).toEqual([6, 7]);
  expect(pairExamples(judged, { actual: 0, predicted: 1, count: 2, share: 0.25 }, 9)).toEqual([6, 5]);
});
