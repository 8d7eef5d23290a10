import { closeSync, existsSync, openSync, readFileSync, readSync, statSync } from "node:fs";
import { createReadStream } from "node:fs";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { z } from "zod";
import { LockstepError } from "../errors.ts";

/**
 * A directory in the official STL-10 binary layout: train_X.bin, train_y.bin, test_X.bin, test_y.bin, optionally
 * class_names.txt and fold_indices.txt. X files hold uint8 images one after the other, channel by channel, each plane
 * column by column; y files hold one label byte per image, counted from 1. Other image sizes than 3 x 96 x 96 are told by
 * dataset.json: {"channels", "height", "width"}.
 */
export interface ImageShape {
  readonly channels: number;
  readonly height: number;
  readonly width: number;
}

export type SplitName = "train" | "test";

const shapeSchema = z.object({
  channels: z.number().int().positive(),
  height: z.number().int().positive(),
  width: z.number().int().positive(),
});
const STL10_SHAPE: ImageShape = { channels: 3, height: 96, width: 96 };

/** One split: labels in memory, images read on demand from one open file. */
export class Split {
  readonly name: SplitName;
  readonly count: number;
  /** Class of every image, counted from 0. */
  readonly labels: Uint8Array;
  readonly shape: ImageShape;
  private readonly file: string;
  private readonly bytes: number;
  private readonly plane: Uint8Array;
  private descriptor: number | null = null;

  constructor(name: SplitName, file: string, labels: Uint8Array, shape: ImageShape) {
    this.name = name;
    this.file = file;
    this.labels = labels;
    this.count = labels.length;
    this.shape = shape;
    this.bytes = shape.channels * shape.height * shape.width;
    this.plane = new Uint8Array(this.bytes);
  }

  /** Writes image `id` as uint8 [height, width, channels] into `into`, from `at` on. */
  read(id: number, into: Uint8Array, at = 0): void {
    if (!(id >= 0 && id < this.count)) throw new RangeError(`image ${id} of ${this.count}`);
    this.descriptor ??= openSync(this.file, "r");
    const read = readSync(this.descriptor, this.plane, 0, this.bytes, id * this.bytes);
    if (read !== this.bytes) throw truncated(this.file, id * this.bytes + read, (id + 1) * this.bytes);
    const { channels, height, width } = this.shape;
    for (let channel = 0; channel < channels; channel++) {
      for (let column = 0; column < width; column++) {
        const from = (channel * width + column) * height;
        let to = at + column * channels + channel;
        for (let row = 0; row < height; row++, to += width * channels) into[to] = this.plane[from + row]!;
      }
    }
  }

  close(): void {
    if (this.descriptor !== null) closeSync(this.descriptor);
    this.descriptor = null;
  }
}

export interface Dataset {
  readonly directory: string;
  readonly shape: ImageShape;
  readonly classNames: readonly string[];
  readonly train: Split;
  readonly test: Split;
  /** The ten folds of STL-10's protocol: sample ids of 1,000 training images each; empty where there are none. */
  readonly folds: readonly (readonly number[])[];
}

/**
 * Opens and checks a data set: file sizes, label range, counts.
 * @throws LockstepError LS_DATA_MISSING, LS_DATA_TRUNCATED, LS_DATA_LABEL or LS_DATA_SHAPE, naming file and byte.
 */
export function openDataset(directory: string): Dataset {
  const shape = readShape(directory);
  const trainLabels = readLabels(directory, "train");
  const testLabels = readLabels(directory, "test");
  const names = readNames(directory);
  const largest = Math.max(maximum(trainLabels), maximum(testLabels));
  const classes = names?.length ?? largest;
  for (const [name, labels] of [["train", trainLabels] as const, ["test", testLabels] as const]) {
    const wrong = labels.findIndex((label) => label < 1 || label > classes);
    if (wrong >= 0) {
      throw new LockstepError(
        "LS_DATA_LABEL",
        `${join(directory, `${name}_y.bin`)}: the label at byte ${wrong} is ${labels[wrong]}, outside of 1 to ${classes}.`,
        { hint: "Labels count from 1, in the order of class_names.txt.", exitCode: 3 },
      );
    }
  }
  const split = (name: SplitName, labels: Uint8Array) => {
    const file = join(directory, `${name}_X.bin`);
    checkSize(file, labels.length, shape);
    return new Split(name, file, labels.map((label) => label - 1), shape);
  };
  const classNames = names ?? Array.from({ length: classes }, (_, i) => (isStl10(trainLabels, shape) ? STL10_NAMES[i]! : `class ${i + 1}`));
  return {
    directory,
    shape,
    classNames,
    train: split("train", trainLabels),
    test: split("test", testLabels),
    folds: readFolds(directory, trainLabels.length),
  };
}

const STL10_NAMES = ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"];
const isStl10 = (labels: Uint8Array, shape: ImageShape) => labels.length === 5000 && shape.height === 96 && maximum(labels) === 10;
const maximum = (labels: Uint8Array) => labels.reduce((most, label) => Math.max(most, label), 0);

function readShape(directory: string): ImageShape {
  const file = join(directory, "dataset.json");
  if (!existsSync(file)) return STL10_SHAPE;
  try {
    return shapeSchema.parse(JSON.parse(readFileSync(file, "utf8")));
  } catch (cause) {
    throw new LockstepError("LS_DATA_SHAPE", `${file} is not {"channels", "height", "width"} with positive integers.`, {
      exitCode: 3,
      cause,
    });
  }
}

function readLabels(directory: string, name: SplitName): Uint8Array {
  const file = join(directory, `${name}_y.bin`);
  if (!existsSync(file)) throw missing(file);
  const labels = new Uint8Array(readFileSync(file));
  if (labels.length === 0) throw truncated(file, 0, 1);
  return labels;
}

function readNames(directory: string): string[] | null {
  const file = join(directory, "class_names.txt");
  if (!existsSync(file)) return null;
  return readFileSync(file, "utf8").split("\n").map((line) => line.trim()).filter((line) => line !== "");
}

function readFolds(directory: string, count: number): number[][] {
  const file = join(directory, "fold_indices.txt");
  const carried = new URL("./stl10/fold_indices.txt", import.meta.url);
  const from = existsSync(file) ? file : count === 5000 && existsSync(carried) ? carried : null;
  if (from === null) return [];
  const lines = readFileSync(from, "utf8").trim().split("\n");
  return lines.map((line) => line.trim().split(/\s+/).map(Number));
}

function checkSize(file: string, count: number, { channels, height, width }: ImageShape): void {
  if (!existsSync(file)) throw missing(file);
  const { size } = statSync(file);
  const expected = count * channels * height * width;
  if (size < expected) throw truncated(file, size, expected);
  if (size > expected) {
    throw new LockstepError(
      "LS_DATA_SIZE",
      `${file} has ${size} bytes; ${count} images of ${channels}x${height}x${width} end at byte ${expected}.`,
      { hint: "Check the label file beside it, or dataset.json for other image sizes.", exitCode: 3 },
    );
  }
}

const missing = (file: string) =>
  new LockstepError("LS_DATA_MISSING", `${file} is missing.`, {
    hint: "Give a directory in the STL-10 binary layout with --data, or run `npx lockstep data fetch`.",
    exitCode: 3,
  });

const truncated = (file: string, size: number, expected: number) =>
  new LockstepError("LS_DATA_TRUNCATED", `${file} ends at byte ${size}; ${expected} bytes are expected.`, {
    hint: "Fetch it again (`npx lockstep data fetch`) or check dataset.json for other image sizes.",
    exitCode: 3,
  });

/** SHA-256 over the bytes of train_X.bin, then train_y.bin: what "the same data" means for a run. */
export async function trainingSha256(directory: string): Promise<string> {
  const hash = createHash("sha256");
  for (const name of ["train_X.bin", "train_y.bin"]) {
    for await (const chunk of createReadStream(join(directory, name), { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
  }
  return hash.digest("hex");
}
