import { readFileSync } from "node:fs";
import type { LayersModel } from "@tensorflow/tfjs-layers";
import { describe, expect, it } from "vitest";
import { Predictor } from "../../worker/compute/predictor.ts";
import { Bench, tensorflow } from "../compute/support.ts";

/** What pytorch-grad-cam makes of these networks: recorded/grad-cam.py. */
const recorded = JSON.parse(readFileSync(new URL("recorded/grad-cam.json", import.meta.url), "utf8")) as {
  readonly networks: Readonly<
    Record<"cam" | "mlp", { readonly logits: readonly number[][]; readonly maps: readonly (readonly number[][][])[] }>
  >;
};

const tf = tensorflow();
const [SIDE, CLASSES, SAMPLES] = [12, 4, 3];
const SHAPE = [SAMPLES, SIDE, SIDE, 3] as const;
const AREA = (SIDE / 2) ** 2;

/** The same formula stands in recorded/grad-cam.py. */
const made = (count: number, seed: number): Float32Array =>
  Float32Array.from(
    { length: count },
    (_, i) => ((i * 7919 + ((i * i) % 1009) * 31 + seed * 104_729) % 1009) / 504.5 - 1,
  );

/** Seeds and factors of kernels and biases, in the order of the network's weights. */
const WEIGHTS = {
  cam: [
    [1, 0.4],
    [2, 0.2],
    [3, 0.3],
    [4, 0.2],
    [5, 1],
    [6, 0.2],
  ],
  mlp: [
    [1, 0.4],
    [2, 0.2],
    [3, 0.3],
    [4, 0.2],
    [7, 0.1],
    [8, 0.2],
    [9, 1],
    [10, 0.2],
  ],
} as const;

function networkOf(ending: "cam" | "mlp"): LayersModel {
  const { layers } = tf;
  const convolution = (filters: number, first = {}) =>
    layers.conv2d({ ...first, filters, kernelSize: 3, padding: "same", activation: "relu" });
  const tail =
    ending === "cam"
      ? [layers.globalAveragePooling2d({})]
      : [layers.flatten(), layers.dense({ units: 10, activation: "relu" })];
  return tf.sequential({
    layers: [
      convolution(8, { inputShape: [SIDE, SIDE, 3] }),
      layers.maxPooling2d({ poolSize: 2 }),
      convolution(12),
      ...tail,
      layers.dense({ units: CLASSES }),
    ],
  });
}

function predictorOf(ending: "cam" | "mlp"): Predictor {
  const model = networkOf(ending);
  const { layout, weights } = new Bench(tf, model, { side: SIDE });
  model.weights.forEach(({ shape }, i) => {
    const { offset, size } = layout.trainable[i]!;
    expect(size).toBe(shape.reduce<number>((product, extent) => product * extent!, 1));
    const [seed, factor] = WEIGHTS[ending][i]!;
    weights.set(
      made(size, seed).map((value) => value * factor),
      offset,
    );
  });
  return new Predictor(tf, model, layout, weights);
}

const images = made(SAMPLES * SIDE * SIDE * 3, 11);
/** Every figure within this of the recorded one, which has seven decimals. */
const CLOSE = 2e-6;
const close = (ours: ArrayLike<number>, theirs: readonly number[], factor = 1) => {
  expect(ours.length).toBe(theirs.length);
  for (const [i, value] of theirs.entries()) expect(Math.abs(ours[i]! - factor * value)).toBeLessThan(CLOSE * factor);
};

describe.each(["cam", "mlp"] as const)("maps of a network that ends in %s", (ending) => {
  const predictor = predictorOf(ending);
  const prediction = predictor.run(images, SHAPE, false);
  const { logits, maps } = recorded.networks[ending];

  it("belong to the same predictions as PyTorch's", () => close(prediction.logits, logits.flat()));

  it("are pytorch-grad-cam's, for every class and image", () => {
    for (let label = 0; label < CLASSES; label++) {
      const theirs = maps[label]!.flat(2);
      const wanted = new Int32Array(SAMPLES).fill(label);
      const ours = predictor.mapsOfClasses(prediction, images, SHAPE, false, wanted)!;
      expect(Math.max(...theirs.map(Math.abs))).toBeGreaterThan(100 * CLOSE);
      if (ending === "mlp") {
        close(ours.values, theirs);
        continue;
      }
      // The exact map is Grad-CAM's times the number of places, since the gradient goes through their mean, and has the bias.
      const bias = Math.fround(made(CLASSES, 6)[label]! * 0.2);
      close(
        ours.values.map((value) => value - bias),
        theirs,
        AREA,
      );
    }
  });
});
