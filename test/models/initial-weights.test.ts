import { createHash } from "node:crypto";
import type { LayersModel, SymbolicTensor } from "@tensorflow/tfjs-layers";
import { expect, test } from "vitest";
import { layoutOf } from "../../shared/model/layout.ts";
import { initialWeights, tensorsOf } from "../../worker/compute/model-tensors.ts";
import { alexnet } from "../../worker/compute/models/alexnet.ts";
import { resnet } from "../../worker/compute/models/resnet.ts";
import { tensorflow } from "../compute/support.ts";

const tf = tensorflow();

function initial(model: LayersModel, seed = 1) {
  const tensors = tensorsOf(model);
  const layout = layoutOf(
    tensors.map(({ spec }) => spec),
    4096,
  );
  const vector = new Float32Array(layout.stateFloats);
  initialWeights(tensors, layout, seed, vector);
  const slots = [...layout.trainable, ...layout.statistics];
  return { vector, values: new Map(slots.map((s) => [s.name, vector.subarray(s.offset, s.offset + s.size)])) };
}

const mean = (values: Float32Array) => values.reduce((sum, v) => sum + v, 0) / values.length;
const deviation = (values: Float32Array) => Math.sqrt(values.reduce((sum, v) => sum + v * v, 0) / values.length);
const all = (values: Float32Array | undefined, expected: number) => values!.every((v) => v === expected);

test("kernels of convolutions are He normal, the dense layer Glorot uniform, everything else constant", () => {
  const { values } = initial(alexnet(tf, [96, 96, 3], 10, { widths: [32, 64, 96] }));
  for (const [name, fanIn] of [
    ["conv1", 75],
    ["conv2", 288],
    ["conv3", 1600],
  ] as const) {
    const kernel = values.get(`${name}/kernel`)!;
    const expected = Math.sqrt(2 / fanIn);
    const error = expected / Math.sqrt(kernel.length);
    expect(Math.abs(mean(kernel))).toBeLessThan(4 * error);
    expect(Math.abs(deviation(kernel) - expected)).toBeLessThan(4 * error);
    expect(all(values.get(`${name}_norm/gamma`), 1)).toBe(true);
    expect(all(values.get(`${name}_norm/beta`), 0)).toBe(true);
    expect(all(values.get(`${name}_norm/moving_mean`), 0)).toBe(true);
    expect(all(values.get(`${name}_norm/moving_variance`), 1)).toBe(true);
  }
  const dense = values.get("logits/kernel")!;
  const limit = Math.sqrt(6 / (96 + 10));
  expect(Math.max(...dense.map(Math.abs))).toBeLessThanOrEqual(limit);
  expect(deviation(dense) / (limit / Math.sqrt(3))).toBeCloseTo(1, 1);
  expect(all(values.get("logits/bias"), 0)).toBe(true);
});

test("a residual block starts as the identity: its last scale is zero, the others one", () => {
  const { values } = initial(resnet(tf, [96, 96, 3], 10, { blocks: [1, 1], widths: [4, 8] }));
  for (const [name, tensor] of values) {
    if (name.endsWith("/gamma")) expect(all(tensor, name.endsWith("norm2/gamma") ? 0 : 1), name).toBe(true);
  }
});

test("the bits are those recorded, on any machine; another seed gives others", () => {
  const hash = (seed: number) =>
    createHash("sha256")
      .update(initial(alexnet(tf, [96, 96, 3], 10), seed).vector)
      .digest("hex");
  expect(hash(1)).toBe(RECORDED);
  expect(hash(2)).not.toBe(RECORDED);
});

/** Recorded once from this code: a change of it changes every run. */
const RECORDED = "b5f076efe49d9ce344dfeed0d8ff0f2ca9d3b65fcec667176ab360e8d2f030fd";

test("layers of users start as their initializers say, and one that is not known is named", () => {
  const make = (kernelInitializer: string) => {
    const input = tf.input({ shape: [8, 8, 3] });
    const separable = tf.layers.separableConv2d({
      filters: 16,
      kernelSize: 3,
      depthMultiplier: 40,
      depthwiseInitializer: "glorotNormal",
      biasInitializer: tf.initializers.constant({ value: 0.5 }),
      name: "separable",
    });
    const flat = tf.layers.flatten().apply(separable.apply(input)) as SymbolicTensor;
    const range = tf.initializers.randomUniform({ minval: 0.1, maxval: 0.2 });
    const inner = tf.layers.dense({ units: 8, kernelInitializer: range, name: "inner" });
    const end = tf.layers.dense({ units: 99, kernelInitializer: kernelInitializer as "zeros", name: "end" });
    return tf.model({ inputs: input, outputs: end.apply(inner.apply(flat)) as SymbolicTensor });
  };
  const { values } = initial(make("truncatedNormal"));
  // Fans as TensorFlow.js counts them: 9 * 3 in and 9 * 40 out.
  expect(deviation(values.get("separable/depthwise_kernel")!) / Math.sqrt(2 / (27 + 360))).toBeCloseTo(1, 1);
  expect(deviation(values.get("separable/pointwise_kernel")!) / Math.sqrt(2 / (120 + 16))).toBeCloseTo(1, 1);
  expect(all(values.get("separable/bias"), 0.5)).toBe(true);
  const uniform = values.get("inner/kernel")!;
  expect(Math.min(...uniform)).toBeGreaterThanOrEqual(Math.fround(0.1));
  expect(Math.max(...uniform)).toBeLessThanOrEqual(Math.fround(0.2));
  expect(mean(uniform)).toBeCloseTo(0.15, 2);
  expect(deviation(values.get("end/kernel")!)).toBeCloseTo(0.05, 2);
  expect(() => initial(make("orthogonal"))).toThrow("The initializer Orthogonal of end/kernel is not supported.");
});
