import { existsSync } from "node:fs";
import { mkdir, mkdtemp, open, readdir, rename, rm, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { NAMES_FILE, SHAPE_FILE } from "../../shared/data/stl10.ts";
import { LockstepError } from "../../shared/errors.ts";
import { DOMAIN, Stream } from "../../shared/plan/random.ts";
import { classNameOf, drawImage, MOST_CLASSES } from "./drawing.ts";

export interface SyntheticOptions {
  readonly train?: number;
  readonly test?: number;
  readonly classes?: number;
  readonly side?: number;
  readonly seed?: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, all: number) => void;
}

/** Images drawn before other work of the process gets its turn. */
const IMAGES_PER_TURN = 16;

/**
 * Writes a generated data set in the STL-10 layout: whole or not at all, and the same bytes for the same options on
 * every machine.
 * @throws LockstepError LS_DATA_SYNTH for options out of range, LS_DATA_EXISTS where `directory` holds files.
 */
export async function writeSynthetic(directory: string, options: SyntheticOptions = {}): Promise<void> {
  const { train = 1000, test = 500, classes = 10, side = 96, seed = 1, signal, onProgress } = options;
  checkRange("train", train, classes, 1_000_000);
  checkRange("test", test, 1, 1_000_000);
  checkRange("classes", classes, 2, MOST_CLASSES);
  checkRange("side", side, 8, 1024);
  checkRange("seed", seed, 0, 0xffffffff);
  if (existsSync(directory) && (await readdir(directory)).length > 0) {
    throw new LockstepError("LS_DATA_EXISTS", `${directory} is not empty.`, {
      hint: "Give another directory with --dir.",
      exitCode: 2,
    });
  }
  await mkdir(dirname(directory), { recursive: true });
  const temporary = await mkdtemp(join(dirname(directory), `.${basename(directory)}-`));
  try {
    let done = 0;
    const drawn = async () => {
      onProgress?.(++done, train + test);
      if (done % IMAGES_PER_TURN === 0) await nextTurn(undefined, { signal });
    };
    for (const [split, name, count] of [[0, "train", train] as const, [1, "test", test] as const]) {
      await writeSplit(temporary, { split, name, count, classes, side, seed }, drawn);
    }
    await writeFile(join(temporary, SHAPE_FILE), `${JSON.stringify({ channels: 3, height: side, width: side })}\n`);
    const names = Array.from({ length: classes }, (_, label) => `${classNameOf(label)}\n`);
    await writeFile(join(temporary, NAMES_FILE), names.join(""));
    await moveInto(temporary, directory);
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

interface SplitToWrite {
  readonly split: 0 | 1;
  readonly name: string;
  readonly count: number;
  readonly classes: number;
  readonly side: number;
  readonly seed: number;
}

async function writeSplit(directory: string, set: SplitToWrite, drawn: () => Promise<void>): Promise<void> {
  const { split, name, count, classes, side, seed } = set;
  // As many of each class as can be, in no order.
  const labels = Array.from({ length: count }, (_, id) => id % classes);
  new Stream(seed, DOMAIN.synthetic, 2, split).shuffle(labels);
  await writeFile(
    join(directory, `${name}_y.bin`),
    Uint8Array.from(labels, (label) => label + 1),
  );
  const file = await open(join(directory, `${name}_X.bin`), "w");
  const image = new Uint8Array(3 * side * side);
  try {
    for (const [id, label] of labels.entries()) {
      drawImage(seed, split, id, label, side, image);
      await file.appendFile(image);
      await drawn();
    }
  } finally {
    await file.close();
  }
}

/** Another process may have been faster: its files are the same. */
async function moveInto(temporary: string, directory: string): Promise<void> {
  try {
    await rename(temporary, directory);
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : "";
    if (code !== "ENOTEMPTY" && code !== "EEXIST") throw error;
  }
}

function checkRange(name: string, value: number, least: number, most: number): void {
  if (Number.isInteger(value) && value >= least && value <= most) return;
  throw new LockstepError("LS_DATA_SYNTH", `--${name} ${value} is not a whole number from ${least} to ${most}.`, {
    exitCode: 2,
  });
}
