import { describe, expect, test } from "vitest";
import { alexnet } from "../../worker/compute/models/alexnet.ts";
import { Bench, fillWeights, tensorflow } from "./support.ts";

const tf = tensorflow();

/** Loss and gradient with each sample's own labels, those of partners, and shares; the same images and dropout. */
function benchOf(execution: "eager" | "graph") {
  const bench = new Bench(tf, alexnet(tf, [16, 16, 3], 4, { widths: [3, 5, 6], dropout: 0.3 }), { execution });
  fillWeights(bench);
  const { samples, side, step, shard } = bench.options;
  const [labels, others, shares] = [0, 256, 512].map((offset) => bench.labels.byteOffset + offset) as [
    number,
    number,
    number,
  ];
  const own = bench.labels.slice();
  const other = own.map((label) => (label + 1) % 4);
  const run = (first: Int32Array, second: Int32Array | null, share: readonly number[] = []) => {
    bench.labels.set(first);
    if (second !== null) new Int32Array(bench.memory.buffer, others, samples).set(second);
    new Float32Array(bench.memory.buffer, shares, samples).set(share);
    bench.vector.fill(0);
    const input = { images: bench.images.byteOffset, labels, samples, side, epoch: 0, step, shard };
    const mixed = second === null ? null : { labels: others, shares };
    const { loss, correct } = bench.gradient.run({ ...input, mixed }, bench.vector.byteOffset);
    const trained = bench.layout.trainable.flatMap(({ offset, size }) => [
      ...bench.vector.subarray(offset, offset + size),
    ]);
    return { loss, correct, gradient: trained };
  };
  return { run, own, other, samples };
}

/** Largest difference over the largest value. */
function distance(found: readonly number[], expected: readonly number[]): number {
  const scale = Math.max(...expected.map(Math.abs));
  return Math.max(...found.map((value, i) => Math.abs(value - expected[i]!))) / scale;
}

describe.each(["eager", "graph"] as const)("the loss over two labels, %s", (execution) => {
  test("and its gradient lie between those of either label by the share, with label smoothing", () => {
    // Cross entropy is linear in the target: what is expected needs no loss over two labels.
    const { run, own, other, samples } = benchOf(execution);
    const [first, second] = [run(own, own, Array(samples).fill(0.5)), run(other, other, Array(samples).fill(0.5))];
    expect(first.loss).not.toBeCloseTo(second.loss, 2);
    for (const share of [0.5, 0.7, 1]) {
      const { loss, correct, gradient } = run(own, other, Array(samples).fill(share));
      expect(loss).toBeCloseTo(share * first.loss + (1 - share) * second.loss, 4);
      const expected = first.gradient.map((value, i) => share * value + (1 - share) * second.gradient[i]!);
      expect(distance(gradient, expected)).toBeLessThan(1e-5);
      expect(correct).toBe(first.correct);
    }
  });

  test("take each sample's own share", () => {
    const { run, own, other, samples } = benchOf(execution);
    const shares = Array.from({ length: samples }, (_, i) => i % 2);
    const chosen = own.map((label, i) => (shares[i] === 1 ? label : other[i]!));
    const [mixed, plain] = [run(own, other, shares), run(chosen, chosen, shares)];
    expect(mixed.loss).toBeCloseTo(plain.loss, 5);
    expect(distance(mixed.gradient, plain.gradient)).toBeLessThan(1e-6);
  });

  test("of one label twice are those of a recipe that mixes nothing", () => {
    const mixing = benchOf(execution);
    const plain = benchOf(execution);
    const twice = mixing.run(mixing.own, mixing.own, Array(mixing.samples).fill(0.75));
    const once = plain.run(plain.own, null);
    expect(twice.loss).toBeCloseTo(once.loss, 5);
    expect(distance(twice.gradient, once.gradient)).toBeLessThan(1e-6);
  });
});
