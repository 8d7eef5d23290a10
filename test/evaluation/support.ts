import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Predictions } from "../../worker/evaluation/predictions.ts";

/** The real STL-10 where LOCKSTEP_DATA points to it. */
export const realData = (() => {
  const directory = process.env.LOCKSTEP_DATA;
  return directory !== undefined && existsSync(join(directory, "test_X.bin")) ? directory : null;
})();

/** Park and Miller's generator, for tests only: shares nothing with the code under test. */
export function lehmer(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 48271) % 2147483647;
    return state / 2147483647;
  };
}

const normalFrom = (random: () => number) => () =>
  Math.sqrt(-2 * Math.log(random())) * Math.cos(2 * Math.PI * random());

/** Classes that a model of STL-10 takes for each other, by index, with how much. */
const ALIKE: readonly (readonly [number, number, number])[] = [
  [3, 5, 2.2],
  [4, 6, 1.8],
  [2, 9, 2.2],
  [1, 3, 1.2],
  [5, 7, 1.4],
  [0, 8, 1.4],
  [0, 1, 1.0],
  [3, 7, 1.2],
  [4, 5, 1.2],
];

/** Predictions as a middling model makes them: over-confident, alike classes confused, maps around one place. */
export function pretend(labels: ArrayLike<number>, classes = 10, seed = 1): Predictions {
  const random = lehmer(seed);
  const normal = normalFrom(random);
  const samples = labels.length;
  const [height, width] = [9, 9];
  const logits = new Float32Array(samples * classes);
  const values = new Float32Array(samples * 2 * height * width);
  for (let i = 0; i < samples; i++) {
    const label = labels[i]!;
    const row = logits.subarray(i * classes, (i + 1) * classes);
    for (let k = 0; k < classes; k++) row[k] = 1.9 * normal() - 1;
    row[label]! += 5.2 + 2 * normal();
    for (const [a, b, much] of ALIKE) {
      if (a === label && b < classes) row[b]! += much;
      if (b === label && a < classes) row[a]! += much;
    }
    const predicted = row.reduce((best, value, k) => (value > row[best]! ? k : best), 0);
    [predicted, label].forEach((of, which) => {
      const y = 4 + 1.5 * normal();
      const x = 4 + 1.5 * normal();
      const spread = 3 + 6 * random();
      for (let p = 0; p < height * width; p++) {
        const distance = (Math.floor(p / width) - y) ** 2 + ((p % width) - x) ** 2;
        values[(i * 2 + which) * height * width + p] =
          3 * Math.abs(row[of]!) * Math.exp(-distance / spread) - 1 + 0.3 * normal();
      }
    });
  }
  return {
    samples,
    classes,
    logits,
    plainLogits: null,
    labels: Int32Array.from(labels),
    maps: { height, width, values },
  };
}
