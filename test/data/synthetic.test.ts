import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { ensureSynthetic } from "../../deploy/data/locations.ts";
import { writeSynthetic } from "../../deploy/data/synthetic.ts";
import { openDataset, type Split } from "../../shared/data/dataset.ts";
import { temporary } from "./support.ts";

const hashOf = (directory: string) => {
  const hash = createHash("sha256");
  for (const name of readdirSync(directory).sort()) hash.update(name).update(readFileSync(join(directory, name)));
  return hash.digest("hex");
};

describe("the generated data set", () => {
  it("is a data set in the layout, with as many images of each class as can be", async () => {
    const directory = join(temporary("synth"), "set");
    await writeSynthetic(directory, { train: 43, test: 21, classes: 6, side: 20 });
    const dataset = openDataset(directory);
    expect(dataset.shape).toEqual({ channels: 3, height: 20, width: 20 });
    expect(dataset.classNames.length).toBe(6);
    const counts = (split: Split) =>
      dataset.classNames.map((_, label) => split.labels.filter((l) => l === label).length);
    expect(counts(dataset.train).sort()).toEqual([7, 7, 7, 7, 7, 8]);
    expect(counts(dataset.test).sort()).toEqual([3, 3, 3, 4, 4, 4]);
    // In no order: two neighbours seldom have classes that follow one another.
    const inOrder = dataset.train.labels.filter((label, i) => label === (dataset.train.labels[i - 1] ?? -9) + 1).length;
    expect(inOrder).toBeLessThan(25);
    dataset.close();
  });

  it("has the same bytes for the same options, and others for another seed", async () => {
    const at = async (seed: number) => {
      const directory = join(temporary("synth"), "set");
      await writeSynthetic(directory, { train: 20, test: 10, classes: 4, side: 16, seed });
      return hashOf(directory);
    };
    expect(await at(1)).toBe(await at(1));
    expect(await at(1)).not.toBe(await at(2));
  });

  it("has up to 20 classes with different names", async () => {
    const directory = join(temporary("synth"), "set");
    await writeSynthetic(directory, { train: 40, test: 20, classes: 20, side: 8 });
    expect(new Set(openDataset(directory).classNames).size).toBe(20);
  });

  it("can be learned, but not from colour or one pixel alone", async () => {
    const directory = join(temporary("synth"), "set");
    await writeSynthetic(directory, { train: 600, test: 150, classes: 10, side: 32 });
    const dataset = openDataset(directory);
    const [train, test] = [imagesOf(dataset.train), imagesOf(dataset.test)];
    const accuracy = (feature: (image: Uint8Array) => number[]) => {
      const known = train.map(feature);
      const right = test.filter((image, id) => {
        const own = feature(image);
        const distances = known.map((other) => other.reduce((sum, value, i) => sum + (value - own[i]!) ** 2, 0));
        const nearest = distances.indexOf(Math.min(...distances));
        return dataset.train.labels[nearest] === dataset.test.labels[id];
      });
      return right.length / test.length;
    };
    const meanColour = (image: Uint8Array) =>
      [0, 1, 2].map((c) => image.filter((_, i) => i % 3 === c).reduce((a, b) => a + b, 0));
    expect(accuracy(meanColour)).toBeLessThan(0.35);
    // The nearest neighbour by local contrasts finds far more than chance, 0.1.
    expect(accuracy(localContrasts)).toBeGreaterThan(0.3);
    dataset.close();
  });

  it("refuses options out of range and folders with files", async () => {
    const into = join(temporary("synth"), "set");
    await expect(writeSynthetic(into, { classes: 21 })).rejects.toThrow(
      "--classes 21 is not a whole number from 2 to 20.",
    );
    await expect(writeSynthetic(into, { train: 3 })).rejects.toThrow("--train 3 is not a whole number from 10");
    mkdirSync(into);
    writeFileSync(join(into, "note"), "keep");
    await expect(writeSynthetic(into, { train: 20, side: 8 })).rejects.toThrow(`${into} is not empty.`);
    expect(readdirSync(into)).toEqual(["note"]);
  });

  it("leaves nothing behind when it is interrupted", async () => {
    const parent = temporary("synth");
    const stop = new AbortController();
    const onProgress = (done: number) => done === 30 && stop.abort();
    const writing = writeSynthetic(join(parent, "set"), { train: 100, side: 8, signal: stop.signal, onProgress });
    await expect(writing).rejects.toThrow(/abort/i);
    expect(readdirSync(parent)).toEqual([]);
  });

  it("is made once in the cache, also when two ask at once", async () => {
    const cache = temporary("cache");
    const options = { train: 20, test: 10, side: 8 };
    const [one, two] = await Promise.all([ensureSynthetic(cache, options), ensureSynthetic(cache, options)]);
    expect(one).toBe(two);
    const before = hashOf(one);
    expect(await ensureSynthetic(cache, options)).toBe(one);
    expect(hashOf(one)).toBe(before);
    expect(readdirSync(join(cache, "data")).length).toBe(1);
    expect(existsSync(join(one, "class_names.txt"))).toBe(true);
  });
});

function imagesOf(split: Split): Uint8Array[] {
  return Array.from({ length: split.count }, (_, id) => {
    const image = new Uint8Array(split.shape.channels * split.shape.height * split.shape.width);
    split.read(id, image);
    return image;
  });
}

/** Histograms of the differences between pixels that are 1 to 8 apart, along rows and columns: position-free. */
function localContrasts(image: Uint8Array): number[] {
  const histogram = new Array<number>(16 * 8).fill(0);
  for (let y = 0; y < 32; y++) {
    for (let x = 0; x < 32; x++) {
      for (let d = 1; d <= 8; d++) {
        for (const [dx, dy] of [[d, 0] as const, [0, d] as const]) {
          if (x + dx >= 32 || y + dy >= 32) continue;
          const at = (a: number, b: number) => {
            const i = (b * 32 + a) * 3;
            return image[i]! + image[i + 1]! + image[i + 2]!;
          };
          const step = Math.min(7, Math.floor(Math.abs(at(x + dx, y + dy) - at(x, y)) / 40));
          histogram[(d - 1) * 16 + (dx > 0 ? 0 : 8) + step]! += 1;
        }
      }
    }
  }
  return histogram;
}
