import { parseArgs } from "node:util";
import type { Augmentation } from "../../shared/config/schema.ts";
import { openDataset } from "../../shared/data/dataset.ts";
import { Augmenter } from "./augment.ts";

/**
 * Images per second that one loader thread prepares: node dist/worker/loader/bench.js --data DIR [--seconds S]
 */
const { values } = parseArgs({ options: { data: { type: "string" }, seconds: { type: "string", default: "2" } } });
const dataset = openDataset(values.data ?? process.env.LOCKSTEP_DATA ?? "");
const { channels, height, width } = dataset.shape;
const plain: Augmentation = {
  cropPadding: 12,
  border: "zero",
  resizedCrop: null,
  flip: 0.5,
  mean: [0.4467, 0.4398, 0.4066].slice(0, channels),
  deviation: [0.2603, 0.2566, 0.2713].slice(0, channels),
  colour: null,
  cutout: 0,
};
const full: Augmentation = {
  ...plain,
  border: "reflect",
  resizedCrop: { area: [0.5, 1], aspect: [3 / 4, 4 / 3] },
  colour: { contrast: [0.7, 1.3], brightness: 0.3, saturation: [0.6, 1.4] },
  cutout: 1 / 3,
};

for (const [name, settings, side] of [
  ["padded crop, flip", plain, height],
  ["resized crop, flip, colour, cutout", full, height],
  ["the same after two random operations", { ...full, operations: { count: 2, strength: 0.5 } }, height],
  ["resized crop and so on, to two thirds of the side", full, Math.round((height * 2) / 3)],
] as const) {
  const augmenter = new Augmenter(settings, dataset.shape, 1);
  const stored = new Uint8Array(channels * height * width);
  const into = new Float32Array(side * side * channels);
  const run = (millis: number) => {
    const start = performance.now();
    let images = 0;
    for (; performance.now() - start < millis; images++) {
      const id = (images * 977) % dataset.train.count;
      dataset.train.read(id, stored);
      augmenter.train(stored, 0, id, side, into);
    }
    return (images / (performance.now() - start)) * 1000;
  };
  run(500);
  console.log(
    `${run(Number(values.seconds) * 1000)
      .toFixed(0)
      .padStart(6)} images/s  ${side}x${side}  ${name}`,
  );
}
dataset.close();
