import { createHash } from "node:crypto";
import { createReadStream, existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { LockstepError } from "../errors.ts";
import { type ImageShape, reasonOf, Split, type SplitName, truncated } from "./split.ts";
import { carriedFile, FOLDS_FILE, NAMES_FILE, SHAPE_FILE, STL10_FILES } from "./stl10.ts";
import { parseClassNames, parseFolds } from "./text-files.ts";
import { chooseImages, type TrainingPart } from "./training-part.ts";

export { type ImageShape, Split, type SplitName } from "./split.ts";

/**
 * A directory in the official STL-10 binary layout: train_X.bin, train_y.bin, test_X.bin, test_y.bin, optionally
 * class_names.txt and fold_indices.txt. X files hold uint8 images one after the other, channel by channel, each plane
 * column by column; y files hold one label byte per image, counted from 1. Images of another size than 3 x 96 x 96 are
 * told by dataset.json: {"channels", "height", "width"}.
 */
export interface Dataset {
  readonly directory: string;
  readonly shape: ImageShape;
  /** One for each class, in the order of the labels. */
  readonly classNames: readonly string[];
  /** What a run trains on. */
  readonly train: Split;
  /** What it is evaluated on: test images, or training images that were held out. */
  readonly test: Split;
  /** The folds of STL-10's protocol: sample ids of training images, 1,000 each; empty where there are none. */
  readonly folds: readonly (readonly number[])[];
  /** Closes both files. */
  close(): void;
}

const extent = z.number().int().min(1).max(4096);
const shapeSchema = z.object({ channels: extent, height: extent, width: extent });
const STL10_SHAPE: ImageShape = { channels: 3, height: 96, width: 96 };

/**
 * Opens and checks a data set: sizes, counts, labels, names and folds. Reads the labels and no image. Where images are held
 * out, the files of the test images are not even looked at: what is chosen then cannot depend on them.
 * @param part which training images a run trains on; null for all
 * @throws LockstepError LS_DATA_MISSING, LS_DATA_TRUNCATED, LS_DATA_SIZE, LS_DATA_LABEL, LS_DATA_SHAPE, LS_DATA_NAMES,
 * LS_DATA_FOLDS, LS_DATA_READ, naming the file and the byte or line, or LS_DATA_PART.
 */
export function openDataset(directory: string, part: TrainingPart | null = null): Dataset {
  const shape = readShape(directory);
  const trainLabels = readLabels(directory, "train");
  const testLabels = part?.kind === "holdOut" ? null : readLabels(directory, "test");
  const stl10 = isStl10(trainLabels);
  const given = readNames(directory, stl10);
  const classes = given?.length ?? Math.max(largest(trainLabels), largest(testLabels ?? new Uint8Array(0)));
  const open = (name: SplitName, labels: Uint8Array, places: Int32Array | null) => {
    checkLabels(join(directory, `${name}_y.bin`), labels, classes);
    const file = join(directory, `${name}_X.bin`);
    checkSize(file, join(directory, `${name}_y.bin`), labels.length, shape);
    const chosen = places === null ? labels : Uint8Array.from(places, (place) => labels[place]!);
    return new Split(
      name,
      file,
      chosen.map((label) => label - 1),
      shape,
      places,
    );
  };
  const folds = readFolds(directory, stl10, trainLabels.length);
  const chosen = part === null ? null : chooseImages(part, trainLabels, folds);
  const train = open("train", trainLabels, chosen?.trained ?? null);
  const test =
    testLabels === null ? open("train", trainLabels, chosen?.heldOut ?? null) : open("test", testLabels, null);
  return {
    directory,
    shape,
    classNames: given ?? Array.from({ length: classes }, (_, i) => `class ${i + 1}`),
    train,
    test,
    folds,
    close() {
      train.close();
      test.close();
    },
  };
}

/** SHA-256 over the bytes of train_X.bin, then train_y.bin: what "the same data" means for a run. */
export async function trainingSha256(directory: string): Promise<string> {
  const hash = createHash("sha256");
  for (const name of ["train_X.bin", "train_y.bin"]) {
    for await (const chunk of createReadStream(join(directory, name), { highWaterMark: 1 << 20 })) hash.update(chunk);
  }
  return hash.digest("hex");
}

const largest = (labels: Uint8Array) => labels.reduce((most, label) => Math.max(most, label), 0);

/** Whether these are the training labels of STL-10 itself, whose names and folds the project knows. */
function isStl10(labels: Uint8Array): boolean {
  const { bytes, md5 } = STL10_FILES.find(({ name }) => name === "train_y.bin")!;
  return labels.length === bytes && createHash("md5").update(labels).digest("hex") === md5;
}

function readShape(directory: string): ImageShape {
  const file = join(directory, SHAPE_FILE);
  if (!existsSync(file)) return STL10_SHAPE;
  try {
    return shapeSchema.parse(JSON.parse(readFileSync(file, "utf8")));
  } catch (cause) {
    throw new LockstepError("LS_DATA_SHAPE", `${file} does not describe the images.`, {
      hint: 'It should read like {"channels": 3, "height": 96, "width": 96}.',
      exitCode: 3,
      cause,
    });
  }
}

function readLabels(directory: string, name: SplitName): Uint8Array {
  const file = join(directory, `${name}_y.bin`);
  const labels = new Uint8Array(readSmall(file));
  if (labels.length === 0) throw truncated(file, 0, "it should hold one byte for each image");
  return labels;
}

function checkLabels(file: string, labels: Uint8Array, classes: number): void {
  const wrong = labels.findIndex((label) => label < 1 || label > classes);
  if (wrong < 0) return;
  throw new LockstepError(
    "LS_DATA_LABEL",
    `${file}: the label at byte ${wrong} is ${labels[wrong]}, outside of 1 to ${classes}.`,
    { hint: `Labels count from 1, in the order of ${NAMES_FILE}.`, exitCode: 3 },
  );
}

function checkSize(file: string, labelFile: string, count: number, { channels, height, width }: ImageShape): void {
  if (!existsSync(file)) throw missing(file);
  const { size } = statSync(file);
  const image = channels * height * width;
  const expected = count * image;
  if (size === expected) return;
  const format = `${channels}x${height}x${width}`;
  if (size < expected) {
    const inside = size % image === 0 ? "" : `, inside image ${Math.floor(size / image)},`;
    throw truncated(file, size, `this is${inside} before the end of ${count} images of ${format} at byte ${expected}`);
  }
  throw new LockstepError(
    "LS_DATA_SIZE",
    `${file} has ${size} bytes; ${count} images of ${format}, as many as ${labelFile} has labels, end at byte ${expected}.`,
    { hint: `Check which of the two is whole, and ${SHAPE_FILE} for images of another size.`, exitCode: 3 },
  );
}

function readNames(directory: string, stl10: boolean): string[] | null {
  const own = join(directory, NAMES_FILE);
  const file = existsSync(own) ? own : stl10 ? carriedFile(NAMES_FILE) : null;
  return file === null ? null : parseClassNames(readSmall(file).toString("utf8"), file);
}

function readFolds(directory: string, stl10: boolean, trainImages: number): number[][] {
  const own = join(directory, FOLDS_FILE);
  const file = existsSync(own) ? own : stl10 ? carriedFile(FOLDS_FILE) : null;
  return file === null ? [] : parseFolds(readSmall(file).toString("utf8"), file, trainImages);
}

function readSmall(file: string): Buffer {
  if (!existsSync(file)) throw missing(file);
  try {
    return readFileSync(file);
  } catch (cause) {
    throw new LockstepError("LS_DATA_READ", `${file} cannot be read at byte 0: ${reasonOf(cause)}.`, {
      hint: "Check the file's permissions.",
      exitCode: 3,
      cause,
    });
  }
}

const missing = (file: string) =>
  new LockstepError("LS_DATA_MISSING", `${file} is missing.`, {
    hint: "Give a directory in the STL-10 binary layout with --data, or run `npx lockstep data fetch`.",
    exitCode: 3,
  });
