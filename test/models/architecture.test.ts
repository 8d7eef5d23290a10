import { describe, expect, test } from "vitest";
import { alexnet } from "../../worker/compute/models/alexnet.ts";
import { layerRows, describe as tableOf } from "../../worker/compute/models/describe.ts";
import { resnet } from "../../worker/compute/models/resnet.ts";
import { resnet11 } from "../../worker/compute/models/resnet11.ts";
import { tensorflow } from "../compute/support.ts";

const tf = tensorflow();
const SHAPE: [number, number, number] = [96, 96, 3];

test("alexnet has three convolutions and one dense layer, on these shapes", () => {
  const rows = layerRows(alexnet(tf, SHAPE, 10), SHAPE);
  expect(rows.filter(({ weighted }) => weighted).map(({ name }) => name)).toEqual([
    "conv1",
    "conv2",
    "conv3",
    "logits",
  ]);
  const [w1, w2, w3] = WIDTHS;
  const outputs = Object.fromEntries(rows.map(({ name, output }) => [name, output.join("x")]));
  expect(outputs).toMatchObject({ conv1: `48x48x${w1}`, conv2: `24x24x${w2}`, conv3: `12x12x${w3}`, logits: "10" });
  // By hand: 5x5, 3x3 and 5x5 kernels with two values a channel for each norm, then the dense layer.
  const expected = 25 * 3 * 64 + 128 + 9 * 64 * 160 + 320 + 25 * 160 * 256 + 512 + 2570;
  expect(rows.reduce((sum, { parameters }) => sum + parameters, 0)).toBe(expected);
});

const WIDTHS = [64, 160, 256] as const;

test("resnet has 24 weighted layers: stem, 11 blocks of two convolutions, dense", () => {
  const rows = layerRows(resnet(tf, SHAPE, 10), SHAPE);
  const weighted = rows.filter((row) => row.weighted);
  expect(weighted.length).toBe(24);
  expect(weighted.filter(({ name }) => /_conv[12]$/.test(name)).length).toBe(22);
  // By hand: stem 3*32*9; stacks of 32, 64, 128, 256 with 2, 3, 4, 2 blocks; two values a channel for each norm.
  const conv = (from: number, to: number, size = 9) => from * to * size + 2 * to;
  const stacks = [conv(32, 32) * 4, conv(32, 64) + conv(64, 64) * 5, conv(64, 128) + conv(128, 128) * 7];
  stacks.push(conv(128, 256) + conv(256, 256) * 3);
  const projections = conv(32, 64, 1) + conv(64, 128, 1) + conv(128, 256, 1);
  const expected = conv(3, 32) + stacks.reduce((a, b) => a + b) + projections + 256 * 10 + 10;
  expect(rows.reduce((sum, { parameters }) => sum + parameters, 0)).toBe(expected);
  // Multiplications of the stem by hand: 48 * 48 positions of 3x3x3x32.
  expect(rows.find(({ name }) => name === "stem")!.multiplications).toBe(48 * 48 * 27 * 32);
});

test("resnet11 has eleven weighted layers: stem, three stages of three convolutions, dense", () => {
  const rows = layerRows(resnet11(tf, SHAPE, 10), SHAPE);
  expect(rows.filter(({ weighted }) => weighted).length).toBe(11);
  const outputs = Object.fromEntries(rows.map(({ name, output }) => [name, output.join("x")]));
  expect(outputs).toMatchObject({
    stem: "48x48x48",
    stage1_add: "24x24x96",
    stage2_add: "12x12x192",
    stage3_add: "6x6x384",
  });
  // By hand: 3x3 kernels with two values a channel for each norm, then the dense layer.
  const conv = (from: number, to: number) => from * to * 9 + 2 * to;
  const stages = [96, 192, 384].map((to) => conv(to / 2, to) + 2 * conv(to, to));
  const expected = conv(3, 48) + stages.reduce((a, b) => a + b) + 3850;
  expect(rows.reduce((sum, { parameters }) => sum + parameters, 0)).toBe(expected);
  expect(expected).toBeCloseTo(4.36e6, -4);
});

test("no 1x1 convolution has a stride: their weight gradient overruns oneDNN's heap at few channels", () => {
  for (const model of [alexnet, resnet, resnet11].map((make) => make(tf, SHAPE, 10))) {
    for (const { detail } of layerRows(model, SHAPE)) expect(detail).not.toMatch(/^1x1 \/ [2-9]/);
  }
});

describe.each([alexnet, resnet, resnet11])("%o", (make) => {
  test("takes images of any size, whatever the size that it was made for", () => {
    const model = make(tf, SHAPE, 10, {});
    for (const side of [32, 64, 97]) {
      const shape = tf.tidy(() => (model.predict(tf.zeros([2, side, side, 3])) as { shape: number[] }).shape);
      expect(shape).toEqual([2, 10]);
    }
  });

  test("keeps more of small images: the maps before pooling are at least 4 pixels wide at 32", () => {
    const model = make(tf, [32, 32, 3], 10, {});
    const rows = layerRows(model, [32, 32, 3]);
    const pooled = rows.findIndex(({ name }) => name === "pooled");
    expect(rows[pooled - 1]!.output[0]).toBeGreaterThanOrEqual(4);
  });
});

test("the table in Markdown names every weighted layer with its number", () => {
  const table = tableOf(resnet(tf, SHAPE, 10), SHAPE).split("\n");
  expect(table[2]).toBe("| 1 | stem | Conv2D | 3x3 / 2 | 48x48x32 | 928 | 1,990,656 |");
  expect(table.at(-2)).toBe("| 24 | logits | Dense |  | 10 | 2,570 | 2,560 |");
  expect(table.at(-1)).toMatch(/^\| 24 \| total \|/);
});
