import type { SymbolicTensor } from "@tensorflow/tfjs-layers";
import { expect, test } from "vitest";
import { GradCam } from "../../worker/compute/grad-cam.ts";
import { alexnet } from "../../worker/compute/models/alexnet.ts";
import { resnet } from "../../worker/compute/models/resnet.ts";
import { mapMethodOf, Predictor } from "../../worker/compute/predictor.ts";
import { resnetForward, weightsOf } from "../models/reference/networks.ts";
import { Tape, value } from "../models/reference/tape.ts";
import { Bench, fillNormal, fillWeights, tensorflow } from "./support.ts";

const tf = tensorflow();
const SHAPE = [6, 16, 16, 3] as const;
const PIXELS = 16 * 16 * 3;
const CLASSES = 4;

function small() {
  const model = resnet(tf, [96, 96, 3], CLASSES, { blocks: [1, 1], widths: [4, 6], dropout: 0.5 });
  const bench = new Bench(tf, model);
  fillWeights(bench);
  return {
    model,
    bench,
    predictor: new Predictor(tf, model, bench.layout, bench.weights),
    images: bench.images.slice(),
  };
}

/** Image `index` of a batch, its columns in reverse order. */
function mirrored(images: Float32Array): Float32Array {
  return images.map((_, i) => {
    const [channel, column] = [i % 3, Math.floor(i / 3) % 16];
    return images[i - channel - column * 3 + (15 - column) * 3 + channel]!;
  });
}

test("maps are the dense layer applied to each position, and their mean is the logit", () => {
  const { bench, predictor, images } = small();
  expect(predictor.hasExactMaps).toBe(true);
  const { logits, maps } = predictor.run(images, SHAPE, false);
  const weights = weightsOf(bench.tensors(bench.weights));
  const pass = { weights, images: value(SHAPE, images), training: false, mask: null };
  const { features } = resnetForward(new Tape(), pass, [1, 1], 2);
  const [, height, width, channels] = features.shape as [number, number, number, number];
  expect([maps!.height, maps!.width]).toEqual([height, width]);
  const [kernel, bias] = [weights.get("logits/kernel")!, weights.get("logits/bias")!];
  for (let position = 0; position < 6 * height * width; position++) {
    for (let k = 0; k < CLASSES; k++) {
      let expected = bias.data[k]!;
      for (let c = 0; c < channels; c++) {
        expected += features.data[position * channels + c]! * kernel.data[c * CLASSES + k]!;
      }
      expect(maps!.values[position * CLASSES + k]).toBeCloseTo(expected, 4);
    }
  }
  for (let i = 0; i < 6 * CLASSES; i++) {
    const [n, k] = [Math.floor(i / CLASSES), i % CLASSES];
    let sum = 0;
    for (let p = 0; p < height * width; p++) sum += maps!.values[(n * height * width + p) * CLASSES + k]!;
    expect(sum / (height * width)).toBeCloseTo(logits[i]!, 4);
  }
});

test("flip averaging is the mean over the image and its mirror image, maps mirrored back", () => {
  const { predictor, images } = small();
  const plain = predictor.run(images, SHAPE, false);
  const flipped = predictor.run(mirrored(images), SHAPE, false);
  const both = predictor.run(images, SHAPE, true);
  const half = (a: number, b: number) => Math.fround(Math.fround(a + b) * 0.5);
  expect([...both.logits]).toEqual([...plain.logits.map((v, i) => half(v, flipped.logits[i]!))]);
  const { width } = both.maps!;
  const values = plain.maps!.values.map((v, i) => {
    const [k, column] = [i % CLASSES, Math.floor(i / CLASSES) % width];
    return half(v, flipped.maps!.values[i - k - column * CLASSES + (width - 1 - column) * CLASSES + k]!);
  });
  expect([...both.maps!.values]).toEqual([...values]);
});

test("an image's prediction has the same bits whatever its neighbours in the batch are", () => {
  const { predictor, images } = small();
  const first = predictor.run(images, SHAPE, true);
  const others = images.slice();
  fillNormal(others.subarray(PIXELS), 99, 3);
  const second = predictor.run(others, SHAPE, true);
  expect(second.logits.slice(CLASSES)).not.toEqual(first.logits.slice(CLASSES));
  expect(second.logits.slice(0, CLASSES)).toEqual(first.logits.slice(0, CLASSES));
  const area = first.maps!.height * first.maps!.width * CLASSES;
  expect(second.maps!.values.slice(0, area)).toEqual(first.maps!.values.slice(0, area));
});

test("predicting neither leaks nor disturbs training on the same model, and training not predicting", () => {
  const { bench, predictor, images } = small();
  const first = predictor.run(images, SHAPE, true);
  const trained = bench.run().loss;
  const { numTensors, numBytes } = tf.memory();
  for (let i = 0; i < 3; i++) {
    expect(predictor.run(images, SHAPE, true)).toEqual(first);
    expect(bench.run().loss).toBe(trained);
  }
  expect(tf.memory()).toMatchObject({ numTensors, numBytes });
});

test("a model with another end has logits and no exact maps", () => {
  const input = tf.input({ shape: [16, 16, 3] });
  const flat = tf.layers.flatten().apply(input) as SymbolicTensor;
  const model = tf.model({ inputs: input, outputs: tf.layers.dense({ units: 2 }).apply(flat) as SymbolicTensor });
  const bench = new Bench(tf, model, { classes: 2 });
  fillWeights(bench);
  const predictor = new Predictor(tf, model, bench.layout, bench.weights);
  expect(predictor.hasExactMaps).toBe(false);
  const { logits, maps } = predictor.run(bench.images.slice(), SHAPE, true);
  expect(maps).toBeNull();
  expect(logits.length).toBe(12);
});

test("maps exist for both built-in models as they are trained", () => {
  for (const model of [alexnet(tf, [96, 96, 3], 10), resnet(tf, [96, 96, 3], 10)]) {
    const bench = new Bench(tf, model, { classes: 10 });
    expect(new Predictor(tf, model, bench.layout, bench.weights).hasExactMaps).toBe(true);
  }
});

test("Grad-CAM of pooling and a dense layer is the exact map without its bias, by the chain rule, and leaks nothing", () => {
  const { model, bench, predictor, images } = small();
  const exact = predictor.run(images, SHAPE, false).maps!;
  const area = exact.height * exact.width;
  const bias = bench.tensors(bench.weights).find(({ name }) => name === "logits/bias")!.data;
  const classes = Int32Array.of(0, 1, 2, 3, 0, 1);
  const x = tf.tensor4d(images, [...SHAPE]);
  const gradients = GradCam.of(tf, model)!;
  gradients.maps(x, classes).dispose();
  const { numTensors } = tf.memory();
  const maps = gradients.maps(x, classes);
  expect(maps.shape).toEqual([6, exact.height, exact.width]);
  maps.dataSync().forEach((value, i) => {
    const label = classes[Math.floor(i / area)]!;
    expect(value * area + bias[label]!).toBeCloseTo(exact.values[i * CLASSES + label]!, 4);
  });
  tf.dispose(maps);
  expect(tf.memory().numTensors).toBe(numTensors);
  x.dispose();
});

test("models with another head have maps by gradients, each of its own image alone", () => {
  const input = tf.input({ shape: [16, 16, 3] });
  const features = tf.layers.conv2d({ filters: 4, kernelSize: 3, activation: "relu" }).apply(input) as SymbolicTensor;
  const pooled = tf.layers.flatten().apply(tf.layers.maxPooling2d({}).apply(features)) as SymbolicTensor;
  const model = tf.model({ inputs: input, outputs: tf.layers.dense({ units: 3 }).apply(pooled) as SymbolicTensor });
  const bench = new Bench(tf, model, { classes: 3 });
  fillWeights(bench);
  expect(mapMethodOf(tf, model)).toBe("grad-cam");
  const predictor = new Predictor(tf, model, bench.layout, bench.weights);
  const images = bench.images.slice();
  const classes = Int32Array.of(0, 1, 2, 0, 1, 2);
  const first = predictor.gradientMaps(images, SHAPE, true, classes)!;
  expect([first.height, first.width]).toEqual([14, 14]);
  const others = images.slice();
  fillNormal(others.subarray(PIXELS), 99, 3);
  const second = predictor.gradientMaps(others, SHAPE, true, classes)!;
  expect(second.values.slice(0, 196)).toEqual(first.values.slice(0, 196));
  expect(second.values.slice(196)).not.toEqual(first.values.slice(196));
});
