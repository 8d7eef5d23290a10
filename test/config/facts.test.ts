import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { datasetFacts, machineFacts } from "../../shared/config/facts.ts";
import { openDataset } from "../../shared/data/dataset.ts";
import { temporary, writeSmallSet } from "../data/support.ts";

const real = process.env.LOCKSTEP_DATA;

describe("facts", () => {
  it("of a data set are its counts, hash and pixel statistics", async () => {
    const directory = writeSmallSet(temporary("facts"), {
      shape: { channels: 2, height: 4, width: 5 },
      train: [1, 2, 1],
      test: [2],
    });
    const dataset = openDataset(directory);
    const facts = await datasetFacts(dataset);
    expect(facts).toMatchObject({ trainImages: 3, testImages: 1, classes: 2, channels: 2, height: 4, width: 5 });
    const image = new Uint8Array(40);
    const pixels: number[][] = [[], []];
    for (let id = 0; id < 3; id++) {
      dataset.train.read(id, image);
      image.forEach((byte, i) => void pixels[i % 2]!.push(byte / 255));
    }
    dataset.close();
    pixels.forEach((values, channel) => {
      const mean = values.reduce((sum, x) => sum + x, 0) / values.length;
      const variance = values.reduce((sum, x) => sum + (x - mean) ** 2, 0) / values.length;
      expect(facts.mean[channel]).toBeCloseTo(mean, 4);
      expect(facts.deviation[channel]).toBeCloseTo(Math.sqrt(variance), 3);
    });
  });

  it("leave out the pixels of images that are held out", async () => {
    const directory = writeSmallSet(temporary("facts"), {
      shape: { channels: 1, height: 2, width: 3 },
      train: [1, 2, 1, 2, 1, 2],
      test: [2],
    });
    const [part, trained] = [{ kind: "holdOut", oneIn: 3, seed: 1 } as const, new Uint8Array(6)];
    const dataset = openDataset(directory, part);
    const facts = await datasetFacts(dataset);
    let sum = 0;
    for (let id = 0; id < dataset.train.count; id++) {
      dataset.train.read(id, trained);
      sum += trained.reduce((total, byte) => total + byte, 0) / 6 / 255;
    }
    expect(dataset.train.count).toBe(4);
    expect(facts.mean[0]).toBeCloseTo(sum / 4, 4);
    const whole = openDataset(directory);
    expect((await datasetFacts(whole)).mean[0]).not.toBe(facts.mean[0]);
    for (const { close } of [dataset, whole]) close();
  });

  it.skipIf(real === undefined || !existsSync(join(real, "train_X.bin")))(
    "of STL-10 are the published ones",
    async () => {
      const dataset = openDataset(real!);
      const { mean, deviation } = await datasetFacts(dataset);
      dataset.close();
      expect(mean).toEqual([0.4467, 0.4398, 0.4066]);
      expect(deviation).toEqual([0.2603, 0.2566, 0.2713]);
    },
  );

  it("of a machine are positive", () => {
    const { cores, memoryBytes } = machineFacts();
    expect(cores).toBeGreaterThanOrEqual(1);
    expect(memoryBytes).toBeGreaterThan(2 ** 20);
  });
});
