import { appendFileSync, chmodSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { openDataset, trainingSha256 } from "../../shared/data/dataset.ts";
import { coded, temporary, writeSmallSet } from "./support.ts";

const LABELS = { train: [1, 2, 3, 1, 2], test: [3, 1] };
const small = () => writeSmallSet(temporary("dataset"), LABELS);

describe("the reader of the STL-10 layout", () => {
  it("reads counts, labels from 0 and names, whatever they are", () => {
    const directory = writeSmallSet(temporary("dataset"), { ...LABELS, names: "cat\ndog\nbird\n" });
    const dataset = openDataset(directory);
    expect(dataset.shape).toEqual({ channels: 3, height: 4, width: 5 });
    expect([...dataset.train.labels]).toEqual([0, 1, 2, 0, 1]);
    expect([...dataset.test.labels]).toEqual([2, 0]);
    expect(dataset.classNames).toEqual(["cat", "dog", "bird"]);
    expect(dataset.folds).toEqual([]);
    expect(openDataset(small()).classNames).toEqual(["class 1", "class 2", "class 3"]);
  });

  it("turns column-major planes into [height, width, channels]", () => {
    const shape = { channels: 2, height: 2, width: 3 };
    const directory = writeSmallSet(temporary("dataset"), { shape, train: [1, 2], test: [1] });
    // Image 1 occupies bytes 12 to 23. Channel 0: columns (12 13) (14 15) (16 17); channel 1: (18 19) (20 21) (22 23).
    const image = new Uint8Array(12);
    const dataset = openDataset(directory);
    dataset.train.read(1, image);
    expect([...image]).toEqual([12, 18, 14, 20, 16, 22, 13, 19, 15, 21, 17, 23]);
    dataset.close();
  });

  it("agrees with the formula of the layout at every pixel of any shape", () => {
    const side = fc.integer({ min: 1, max: 9 });
    fc.assert(
      fc.property(side, side, fc.integer({ min: 1, max: 4 }), (height, width, channels) => {
        const directory = writeSmallSet(temporary("dataset"), {
          shape: { channels, height, width },
          train: [1, 1, 1],
          test: [1],
        });
        const file = readFileSync(join(directory, "train_X.bin"));
        const dataset = openDataset(directory);
        const image = new Uint8Array(5 + height * width * channels);
        dataset.train.read(2, image, 5);
        dataset.close();
        rmSync(directory, { recursive: true });
        for (let y = 0; y < height; y++) {
          for (let x = 0; x < width; x++) {
            for (let c = 0; c < channels; c++) {
              expect(image[5 + (y * width + x) * channels + c]).toBe(
                file[2 * height * width * channels + c * height * width + x * height + y],
              );
            }
          }
        }
      }),
      { numRuns: 25 },
    );
  });

  it("hashes train_X.bin, then train_y.bin", async () => {
    const directory = small();
    const before = await trainingSha256(directory);
    const { createHash } = await import("node:crypto");
    const bytes = Buffer.concat(["train_X.bin", "train_y.bin"].map((name) => readFileSync(join(directory, name))));
    expect(before).toBe(createHash("sha256").update(bytes).digest("hex"));
    bytes[7]! ^= 1;
    writeFileSync(join(directory, "train_X.bin"), bytes.subarray(0, 300));
    expect(await trainingSha256(directory)).not.toBe(before);
  });

  it("refuses an id that is no image", () => {
    const { train } = openDataset(small());
    for (const id of [-1, 5, 0.5]) expect(() => train.read(id, new Uint8Array(60))).toThrow(RangeError);
  });
});

describe("what the reader refuses, naming file and byte", () => {
  it("a missing file", () => {
    const directory = small();
    rmSync(join(directory, "test_X.bin"));
    const error = coded("LS_DATA_MISSING", () => openDataset(directory));
    expect(error.message).toBe(`${join(directory, "test_X.bin")} is missing.`);
    expect(error.toLine()).toContain("data fetch");
    expect(error.exitCode).toBe(3);
  });

  it("a truncated image file", () => {
    const directory = small();
    truncateSync(join(directory, "train_X.bin"), 299);
    expect(coded("LS_DATA_TRUNCATED", () => openDataset(directory)).message).toBe(
      `${join(directory, "train_X.bin")} ends at byte 299; this is, inside image 4, before the end of 5 images of ` +
        "3x4x5 at byte 300.",
    );
    truncateSync(join(directory, "train_X.bin"), 240);
    expect(coded("LS_DATA_TRUNCATED", () => openDataset(directory)).message).toContain(
      "ends at byte 240; this is before",
    );
  });

  it("an image file that lost its end after it was opened", () => {
    const directory = small();
    const { train } = openDataset(directory);
    truncateSync(join(directory, "train_X.bin"), 250);
    expect(coded("LS_DATA_TRUNCATED", () => train.read(4, new Uint8Array(60))).message).toBe(
      `${join(directory, "train_X.bin")} ends at byte 250; image 4 ends at byte 300.`,
    );
  });

  it("an image file that cannot be read", () => {
    const directory = small();
    const { train } = openDataset(directory);
    rmSync(join(directory, "train_X.bin"));
    expect(coded("LS_DATA_READ", () => train.read(2, new Uint8Array(60))).message).toBe(
      `${join(directory, "train_X.bin")} cannot be read at byte 120: ENOENT.`,
    );
  });

  it("more images than labels", () => {
    const directory = small();
    appendFileSync(join(directory, "test_X.bin"), new Uint8Array(60));
    expect(coded("LS_DATA_SIZE", () => openDataset(directory)).message).toBe(
      `${join(directory, "test_X.bin")} has 180 bytes; 2 images of 3x4x5, as many as ${join(directory, "test_y.bin")} ` +
        "has labels, end at byte 120.",
    );
  });

  it("an empty label file", () => {
    const directory = small();
    truncateSync(join(directory, "test_y.bin"), 0);
    expect(coded("LS_DATA_TRUNCATED", () => openDataset(directory)).message).toContain("test_y.bin ends at byte 0;");
  });

  it("labels out of range", () => {
    const zero = writeSmallSet(temporary("dataset"), { train: [1, 2, 0, 1], test: [1] });
    expect(coded("LS_DATA_LABEL", () => openDataset(zero)).message).toBe(
      `${join(zero, "train_y.bin")}: the label at byte 2 is 0, outside of 1 to 2.`,
    );
    const high = writeSmallSet(temporary("dataset"), { train: [1, 2], test: [1, 3, 4], names: "a\nb\nc" });
    expect(coded("LS_DATA_LABEL", () => openDataset(high)).message).toBe(
      `${join(high, "test_y.bin")}: the label at byte 2 is 4, outside of 1 to 3.`,
    );
  });

  it("a description of the images that is none", () => {
    const directory = small();
    for (const text of ["{", '{"channels": 3}', '{"channels": 3, "height": 0, "width": 5}']) {
      writeFileSync(join(directory, "dataset.json"), text);
      expect(coded("LS_DATA_SHAPE", () => openDataset(directory)).message).toContain("dataset.json");
    }
  });

  it("names that are empty or come twice", () => {
    const named = (names: string) => writeSmallSet(temporary("dataset"), { ...LABELS, names });
    expect(coded("LS_DATA_NAMES", () => openDataset(named("cat\n\ndog"))).message).toMatch(
      /class_names.txt: line 2 is/,
    );
    expect(coded("LS_DATA_NAMES", () => openDataset(named("cat\ndog\ncat"))).message).toContain("line 3 repeats");
    expect(coded("LS_DATA_NAMES", () => openDataset(named(""))).message).toContain("line 1 should hold");
  });

  it("folds with ids that do not exist", () => {
    const directory = writeSmallSet(temporary("dataset"), { ...LABELS, folds: "0 1\n2 5 3\n" });
    expect(coded("LS_DATA_FOLDS", () => openDataset(directory)).message).toBe(
      `${join(directory, "fold_indices.txt")}: "5" in line 2, byte 6, is no sample id from 0 to 4.`,
    );
    writeFileSync(join(directory, "fold_indices.txt"), "0 1\n2 4 3 \n");
    expect(openDataset(directory).folds).toEqual([
      [0, 1],
      [2, 4, 3],
    ]);
  });

  it.skipIf(process.getuid?.() === 0)("a label file without permission", () => {
    const directory = small();
    chmodSync(join(directory, "train_y.bin"), 0);
    expect(coded("LS_DATA_READ", () => openDataset(directory)).message).toContain(
      "train_y.bin cannot be read at byte 0",
    );
  });
});
