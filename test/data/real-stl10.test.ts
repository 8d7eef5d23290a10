import { createHash } from "node:crypto";
import { createReadStream, existsSync, readFileSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { openDataset } from "../../shared/data/dataset.ts";
import { carriedFile, STL10_FILES } from "../../shared/data/stl10.ts";
import { realData, temporary } from "./support.ts";

describe("the text files that the project carries", () => {
  it("name STL-10's classes and its ten folds of 1,000 training images", () => {
    const names = readFileSync(carriedFile("class_names.txt"), "utf8").trim().split("\n");
    expect(names).toEqual(["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"]);
    const folds = readFileSync(carriedFile("fold_indices.txt"), "utf8").trim().split("\n");
    expect(folds.map((line) => line.trim().split(" ").length)).toEqual(new Array(10).fill(1000));
  });
});

const real = realData();

describe.skipIf(real === null)("the real STL-10 (skipped where LOCKSTEP_DATA does not name it)", () => {
  const directory = real ?? "";

  it("has the published checksums", async () => {
    for (const { name, bytes, md5 } of STL10_FILES) {
      const hash = createHash("md5");
      let size = 0;
      for await (const chunk of createReadStream(join(directory, name), { highWaterMark: 1 << 20 })) {
        hash.update(chunk);
        size += chunk.length;
      }
      expect({ name, size, md5: hash.digest("hex") }).toEqual({ name, size: bytes, md5 });
    }
  });

  it("has ten classes of 500 and 800 images, and the published mean and deviation of the training pixels", () => {
    const dataset = openDataset(directory);
    const perClass = (labels: Uint8Array) =>
      labels.reduce((n, label) => n.with(label, n[label]! + 1), Array(10).fill(0));
    expect(perClass(dataset.train.labels)).toEqual(Array(10).fill(500));
    expect(perClass(dataset.test.labels)).toEqual(Array(10).fill(800));
    expect(dataset.folds.map((fold) => fold.length)).toEqual(Array(10).fill(1000));
    const sum = [0, 0, 0];
    const squares = [0, 0, 0];
    const image = new Uint8Array(96 * 96 * 3);
    for (let id = 0; id < dataset.train.count; id++) {
      dataset.train.read(id, image);
      for (let i = 0; i < image.length; i += 3) {
        for (let c = 0; c < 3; c++) {
          const value = image[i + c]!;
          sum[c]! += value;
          squares[c]! += value * value;
        }
      }
    }
    dataset.close();
    const n = 5000 * 96 * 96;
    const mean = sum.map((total) => total / n / 255);
    const deviation = squares.map((total, c) => Math.sqrt(total / n / 255 ** 2 - mean[c]! ** 2));
    expect(mean.map((value) => value.toFixed(4))).toEqual(["0.4467", "0.4398", "0.4066"]);
    expect(deviation.map((value) => value.toFixed(4))).toEqual(["0.2603", "0.2566", "0.2713"]);
  });

  it("is upright: neighbouring rows and columns are alike, and the sky is above", () => {
    // Of 100 airplanes, the upper third is brighter than the lower third on average, whichever way columns run.
    const dataset = openDataset(directory);
    const image = new Uint8Array(96 * 96 * 3);
    const planes = [...dataset.train.labels.keys()].filter((id) => dataset.train.labels[id] === 0).slice(0, 100);
    let above = 0;
    let below = 0;
    let left = 0;
    let right = 0;
    for (const id of planes) {
      dataset.train.read(id, image);
      for (let y = 0; y < 96; y++) {
        for (let x = 0; x < 96; x++) {
          const value = image[(y * 96 + x) * 3 + 2]!;
          if (y < 32) above += value;
          if (y >= 64) below += value;
          if (x < 32) left += value;
          if (x >= 64) right += value;
        }
      }
    }
    dataset.close();
    expect(above).toBeGreaterThan(1.1 * below);
    expect(Math.abs(left - right)).toBeLessThan(0.1 * right);
  });

  it("keeps its names and folds where a download stopped before the two text files", () => {
    const bare = temporary("bare-stl10");
    for (const { name } of STL10_FILES) symlinkSync(join(directory, name), join(bare, name));
    const dataset = openDataset(bare);
    expect(dataset.classNames[9]).toBe("truck");
    expect(dataset.folds[0]!.slice(0, 3)).toEqual([39, 4948, 2964]);
    if (existsSync(join(directory, "fold_indices.txt"))) expect(dataset.folds).toEqual(openDataset(directory).folds);
  });
});
