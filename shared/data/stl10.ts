import { existsSync } from "node:fs";
import { join } from "node:path";

/**
 * STL-10 (Coates, Lee, Ng: An Analysis of Single Layer Networks in Unsupervised Feature Learning, AISTATS 2011) as its
 * authors publish it, and the layout of its files, which other data sets may share.
 */
export const STL10_URL = "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz";
/** The folder inside the archive. */
export const STL10_FOLDER = "stl10_binary";

export interface FileFacts {
  readonly name: string;
  readonly bytes: number;
  readonly md5: string;
}

/** The four labelled files, in the archive's order. */
export const STL10_FILES: readonly FileFacts[] = [
  { name: "test_X.bin", bytes: 221_184_000, md5: "7f263ba9f9e0b06b93213547f721ac82" },
  { name: "test_y.bin", bytes: 8_000, md5: "36f9794fa4beb8a2c72628de14fa638e" },
  { name: "train_X.bin", bytes: 138_240_000, md5: "918c2871b30a85fa023e0c44e0bee87f" },
  { name: "train_y.bin", bytes: 5_000, md5: "5a34089d4802c674881badbb80307741" },
];

/** Files that a directory must hold, and those that it may. */
export const REQUIRED_FILES = ["train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin"] as const;
export const NAMES_FILE = "class_names.txt";
export const FOLDS_FILE = "fold_indices.txt";
export const SHAPE_FILE = "dataset.json";

/**
 * The project carries STL-10's two small text files, since they come behind the 2.5 GB of unlabelled images in the
 * archive. Compiled code lies in dist/, the files beside the sources.
 */
export function carriedFile(name: typeof NAMES_FILE | typeof FOLDS_FILE): string {
  const beside = join(import.meta.dirname, "stl10", name);
  return existsSync(beside) ? beside : join(import.meta.dirname, "../../../shared/data/stl10", name);
}
