import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";
import type { ImageShape } from "../../shared/data/dataset.ts";
import { LockstepError } from "../../shared/errors.ts";

export { temporary } from "../temporary.ts";

/** The real STL-10, where the environment names it. */
export const realData = (): string | null => {
  const directory = process.env.LOCKSTEP_DATA;
  return directory !== undefined && existsSync(join(directory, "train_X.bin")) ? directory : null;
};

export interface SmallSet {
  readonly shape?: ImageShape;
  readonly train: readonly number[];
  readonly test: readonly number[];
  readonly names?: string;
  readonly folds?: string;
}

/** Writes a data set whose pixels count up modulo 251; labels as they lie in the file, counted from 1. */
export function writeSmallSet(directory: string, set: SmallSet): string {
  const shape = set.shape ?? { channels: 3, height: 4, width: 5 };
  mkdirSync(directory, { recursive: true });
  for (const split of ["train", "test"] as const) {
    const bytes = set[split].length * shape.channels * shape.height * shape.width;
    writeFileSync(
      join(directory, `${split}_X.bin`),
      Uint8Array.from({ length: bytes }, (_, i) => i % 251),
    );
    writeFileSync(join(directory, `${split}_y.bin`), Uint8Array.from(set[split]));
  }
  writeFileSync(join(directory, "dataset.json"), JSON.stringify(shape));
  if (set.names !== undefined) writeFileSync(join(directory, "class_names.txt"), set.names);
  if (set.folds !== undefined) writeFileSync(join(directory, "fold_indices.txt"), set.folds);
  return directory;
}

/** What `action` throws, which must be a LockstepError with this code. */
export function coded(code: string, action: () => unknown): LockstepError {
  try {
    action();
  } catch (error) {
    if (!(error instanceof LockstepError)) throw error;
    expect(error.code).toBe(code);
    return error;
  }
  throw new Error(`nothing was thrown, ${code} expected`);
}
