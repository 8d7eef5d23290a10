import { expect, test } from "vitest";
import { multipliesBfloat16 } from "../../shared/process/instruction-set.ts";
import { alexnet } from "../../worker/compute/models/alexnet.ts";
import { resnet } from "../../worker/compute/models/resnet.ts";
import { Bench, type BenchOptions, fillWeights, tensorflow } from "./support.ts";

const tf = tensorflow();

const makers = {
  alexnet: () => alexnet(tf, [96, 96, 3], 4, { widths: [16, 24, 32], dropout: 0.2 }),
  resnet: () => resnet(tf, [96, 96, 3], 4, { blocks: [1, 2, 1], widths: [16, 24, 32] }),
};

function gradientOf(name: keyof typeof makers, options: BenchOptions) {
  const bench = new Bench(tf, makers[name](), { side: 48, execution: "graph", ...options });
  fillWeights(bench);
  const result = bench.run();
  const tensors = bench.tensors(bench.vector);
  bench.gradient.dispose();
  return { ...result, tensors };
}

const dot = (a: Float32Array, b: Float32Array) => a.reduce((sum, v, i) => sum + v * b[i]!, 0);
const cosine = (a: Float32Array, b: Float32Array) => dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));

test("the order of instruction sets says which multiply bfloat16", () => {
  expect(
    ["AVX2", "AVX512_CORE_VNNI", "AVX512_CORE_BF16", "AVX512_CORE_AMX", "unknown"].map(multipliesBfloat16),
  ).toEqual([false, false, true, true, false]);
});

test.skipIf(!multipliesBfloat16()).each(["alexnet", "resnet"] as const)(
  "%s: gradients in bfloat16 point where float32's do, and have the same bits twice",
  (name) => {
    const exact = gradientOf(name, {});
    const short = gradientOf(name, { precision: "bf16" });
    expect(gradientOf(name, { precision: "bf16" })).toEqual(short);
    expect(short.loss / exact.loss).toBeGreaterThan(0.99);
    expect(short.loss / exact.loss).toBeLessThan(1.01);
    const all = (tensors: typeof exact.tensors) => Float32Array.from(tensors.flatMap(({ data }) => [...data]));
    expect(cosine(all(short.tensors), all(exact.tensors))).toBeGreaterThan(0.99);
    for (const [i, { name: tensor, data, role }] of short.tensors.entries()) {
      // Shifts behind a normalisation are sums that nearly cancel, so that their relative error says little.
      if (role === "kernel") expect(cosine(data, exact.tensors[i]!.data), tensor).toBeGreaterThan(0.97);
      // Kernels of convolutions come out of bfloat16: their low halves are zero. The dense layer's does not.
      const bits = new Uint32Array(data.buffer, data.byteOffset, data.length);
      if (role === "kernel")
        expect(
          bits.every((word) => (word & 0xffff) === 0),
          tensor,
        ).toBe(!tensor.startsWith("logits"));
    }
  },
);
