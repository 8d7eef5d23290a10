import type { LayersModel } from "@tensorflow/tfjs-layers";
import { afterEach, describe, expect, test } from "vitest";
import { DOMAIN, Stream } from "../../shared/plan/random.ts";
import { alexnet } from "../../worker/compute/models/alexnet.ts";
import { resnet } from "../../worker/compute/models/resnet.ts";
import { resnet11 } from "../../worker/compute/models/resnet11.ts";
import { Bench, type BenchOptions, fillWeights, tensorflow } from "../compute/support.ts";
import {
  alexnetForward,
  type Forward,
  type Pass,
  resnet11Forward,
  resnetForward,
  weightsOf,
} from "./reference/networks.ts";
import { type Numbers, type Precision, Tape, type Value, value } from "./reference/tape.ts";

const tf = tensorflow();
const FAR: [number, number, number] = [96, 96, 3];

const makers = {
  "alexnet, stride 1": () => alexnet(tf, [16, 16, 3], 4, { widths: [3, 5, 6], dropout: 0.3 }),
  "alexnet, stride 2": () => alexnet(tf, FAR, 4, { widths: [4, 3, 7], dropout: 0 }),
  "resnet, stride 1": () => resnet(tf, [16, 16, 3], 4, { blocks: [1, 2], widths: [4, 6], dropout: 0.25 }),
  "resnet, stride 2": () => resnet(tf, FAR, 4, { blocks: [1, 1, 1], widths: [4, 4, 5] }),
  "resnet11, stride 1": () => resnet11(tf, [16, 16, 3], 4, { widths: [3, 4, 5, 6], dropout: 0.25 }),
} satisfies Record<string, () => LayersModel>;

const forwards: Record<keyof typeof makers, (tape: Tape, pass: Pass) => Forward> = {
  "alexnet, stride 1": (tape, pass) => alexnetForward(tape, pass, 1),
  "alexnet, stride 2": (tape, pass) => alexnetForward(tape, pass, 2),
  "resnet, stride 1": (tape, pass) => resnetForward(tape, pass, [1, 2], 1),
  "resnet, stride 2": (tape, pass) => resnetForward(tape, pass, [1, 1, 1], 2),
  "resnet11, stride 1": (tape, pass) => resnet11Forward(tape, pass, 1),
};

let open: Bench | null = null;
afterEach(() => {
  open?.gradient.dispose();
  open = null;
});

function benchOf(model: LayersModel, options: BenchOptions = {}): Bench {
  open = new Bench(tf, model, options);
  fillWeights(open);
  return open;
}

/** What the worker should multiply pooled features with: keys as shared/plan/random.ts documents them. */
function maskOf(model: LayersModel, bench: Bench, features: number): Float64Array | null {
  const layer = model.layers.findIndex(({ name }) => name === "dropout");
  if (layer < 0) return null;
  const { rate } = model.layers[layer]!.getConfig() as { rate: number };
  const { seed, step, shard, samples } = bench.options;
  const stream = new Stream(seed, DOMAIN.dropout, step, shard, layer);
  return Float64Array.from({ length: samples * features }, () => (stream.uniform() < rate ? 0 : 1 / (1 - rate)));
}

function reference(
  name: keyof typeof makers,
  model: LayersModel,
  bench: Bench,
  precision: Precision = Float64Array,
  sums: Precision = precision,
) {
  const { samples, side, labelSmoothing } = bench.options;
  const features = bench.layout.trainable.find((slot) => slot.name === "logits/kernel")!.shape[0]!;
  const tape = new Tape(precision, sums);
  const weights = weightsOf(bench.tensors(bench.weights), precision);
  const images = value([samples, side, side, 3], bench.images, precision);
  const pass = { weights, images, training: true, mask: maskOf(model, bench, features) };
  const forward = forwards[name](tape, pass);
  const loss = tape.crossEntropy(forward.logits, [...bench.labels], labelSmoothing);
  tape.backward();
  return { weights, forward, loss };
}

/** Largest difference as a part of the tensor's largest value. */
function distance(actual: ArrayLike<number>, expected: ArrayLike<number>, scale = 0): number {
  let [worst, size] = [0, scale];
  for (let i = 0; i < expected.length; i++) {
    worst = Math.max(worst, Math.abs(actual[i]! - expected[i]!));
    size = Math.max(size, Math.abs(expected[i]!));
  }
  return worst / size;
}

/** Half a unit in the last place of 1: what rounding to float32 may change of a number, as a part of it. */
const ROUNDING = 2 ** -24;
/**
 * How many roundings of the summed absolute terms a worker's gradient may be off: a few of its own, which its order of
 * summation and its inputs bring, and some times those of plain loops. Of the 148 tensors below the worker's are 0.1 to 10
 * and, in one block, up to 28, where the loops' are up to 33.
 */
const ROUNDINGS = 12;
const TIMES_LOOPS = 2;

/** Largest error of a gradient, in roundings of the tensor's largest sum of absolute terms. */
function roundingsOf(actual: ArrayLike<number>, { grad, terms }: Value): number {
  const size = terms.reduce((most, sum) => Math.max(most, sum), 0);
  return distance(actual, grad, size) / ROUNDING;
}

const argMax = (row: Numbers) => row.indexOf(Math.max(...row));

const cases = (Object.keys(makers) as (keyof typeof makers)[]).flatMap((name) =>
  (["eager", "graph"] as const).map((execution) => [name, execution] as const),
);

describe.each(cases)("%s, %s, against float64", (name, execution) => {
  test.each([0, 0.1])("gradients are sums over the samples, label smoothing %s", (labelSmoothing) => {
    const model = makers[name]();
    const bench = benchOf(model, { labelSmoothing, execution });
    const { weights, loss, forward } = reference(name, model, bench);
    const result = bench.run();
    expect(result.loss / loss).toBeCloseTo(1, 5);
    const classes = bench.options.classes;
    const right = [...bench.labels].filter((label, i) => {
      return argMax(forward.logits.data.slice(i * classes, (i + 1) * classes)) === label;
    });
    expect(result.correct).toBe(right.length);
    const trainable = bench.tensors(bench.vector).filter((tensor) => !tensor.role.startsWith("moving"));
    expect(trainable.length).toBe(bench.layout.trainable.length);
    const loops = reference(name, model, bench, Float32Array).weights;
    for (const { name: tensor, data } of trainable) {
      const expected = weights.get(tensor)!;
      const lost = roundingsOf(loops.get(tensor)!.grad, expected);
      expect(roundingsOf(data, expected), tensor).toBeLessThan(ROUNDINGS + TIMES_LOOPS * lost);
    }
  });

  test("statistics are the batch's mean and unbiased variance times the samples", () => {
    const model = makers[name]();
    const bench = benchOf(model, { execution });
    const { forward } = reference(name, model, bench);
    bench.run();
    const found = new Map(bench.tensors(bench.vector).map((tensor) => [tensor.name, tensor.data]));
    expect(forward.statistics.size * 2).toBe(bench.layout.statistics.length);
    for (const [layer, { mean, variance }] of forward.statistics) {
      const times = (v: number) => v * bench.options.samples;
      const spread = bench.options.samples * Math.sqrt(Math.max(...variance));
      expect(distance(found.get(`${layer}/moving_mean`)!, mean.map(times), spread), layer).toBeLessThan(1e-6);
      expect(distance(found.get(`${layer}/moving_variance`)!, variance.map(times)), layer).toBeLessThan(1e-5);
    }
  });
});

/**
 * Why a bound on the error as a part of the gradient would not do. The gradient that batch norm passes on sums to zero over
 * the batch, so the shift of the normalisation before it, one convolution and one relu away, is a sum that nearly cancels.
 * And what that gradient subtracts is the mean of some hundred nearly equal terms, whose roundings do not average out and
 * shift all of its values alike. The two together cost float32 three digits, in the worker as in plain loops.
 */
test("where float32 loses most, it loses it by cancellation and by the sums inside batch norm's gradient", () => {
  const name = "resnet, stride 1";
  const model = makers[name]();
  const bench = benchOf(model, { labelSmoothing: 0 });
  const exact = reference(name, model, bench).weights.get("stack2_block2_norm1/beta")!;
  const lossOf = (precision: Precision, sums: Precision) =>
    distance(reference(name, model, bench, precision, sums).weights.get("stack2_block2_norm1/beta")!.grad, exact.grad);
  bench.run();
  const worker = bench.tensors(bench.vector).find((tensor) => tensor.name === "stack2_block2_norm1/beta")!;

  expect(Math.max(...exact.terms) / Math.max(...exact.grad.map(Math.abs))).toBeGreaterThan(20);
  const loops = lossOf(Float32Array, Float32Array);
  expect(loops).toBeGreaterThan(2e-5);
  expect(distance(worker.data, exact.grad)).toBeLessThan(2 * loops);
  // The same loops in float32, the two sums inside batch norm's gradient in float64.
  expect(lossOf(Float32Array, Float64Array)).toBeLessThan(loops / 5);
});

test("the reference's own gradients agree with differences of its loss", () => {
  const model = makers["resnet, stride 1"]();
  const bench = benchOf(model, { samples: 2, side: 8 });
  const { weights } = reference("resnet, stride 1", model, bench);
  const lossAt = (name: string, index: number, shift: number) => {
    const tensors = bench.tensors(bench.weights).map((tensor) => {
      const data = Float64Array.from(tensor.data);
      if (tensor.name === name) data[index]! += shift;
      return { ...tensor, data };
    });
    const tape = new Tape();
    const images = value([2, 8, 8, 3], bench.images);
    const pass = { weights: weightsOf(tensors), images, training: true, mask: maskOf(model, bench, 6) };
    return tape.crossEntropy(forwards["resnet, stride 1"](tape, pass).logits, [...bench.labels], 0.1);
  };
  for (const [name, tensor] of weights) {
    if (name.includes("moving")) continue;
    const index = tensor.data.length >> 1;
    const difference = (lossAt(name, index, 1e-6) - lossAt(name, index, -1e-6)) / 2e-6;
    expect(Math.abs(tensor.grad[index]! - difference), name).toBeLessThan(1e-6 * Math.max(1, Math.abs(difference)));
  }
});
