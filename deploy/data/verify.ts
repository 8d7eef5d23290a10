import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { openDataset, trainingSha256 } from "../../shared/data/dataset.ts";
import { STL10_FILES } from "../../shared/data/stl10.ts";
import { wrongChecksum } from "./extract.ts";

export interface Verified {
  readonly directory: string;
  /** Whether every byte is that of the official STL-10. */
  readonly official: boolean;
  readonly trainImages: number;
  readonly testImages: number;
  readonly channels: number;
  readonly height: number;
  readonly width: number;
  readonly classNames: readonly string[];
  readonly folds: number;
  /** SHA-256 over the training files, which runs are bound to. */
  readonly trainingSha256: string;
}

/**
 * Reads a whole data set: layout, sizes and labels, and the published MD5 where it is STL-10.
 * @throws LockstepError LS_DATA_*, naming file and byte.
 */
export async function verifyData(directory: string, signal?: AbortSignal): Promise<Verified> {
  const dataset = openDataset(directory);
  const { train, test, shape, classNames, folds } = dataset;
  // Every image file is read to its end below or by the hash; one image each shows that descriptors can be read at all.
  const image = new Uint8Array(shape.channels * shape.height * shape.width);
  for (const split of [train, test]) split.read(split.count - 1, image);
  dataset.close();
  return {
    directory,
    official: await isOfficial(directory, signal),
    trainImages: train.count,
    testImages: test.count,
    ...shape,
    classNames,
    folds: folds.length,
    trainingSha256: await trainingSha256(directory),
  };
}

/**
 * Whether the four files are STL-10's. Where all have its sizes, one right checksum makes it STL-10 and a wrong one
 * beside it damage; where none is right, it is another data set of the same size.
 */
async function isOfficial(directory: string, signal: AbortSignal | undefined): Promise<boolean> {
  const sums: { readonly name: string; readonly md5: string; readonly right: boolean }[] = [];
  for (const { name, bytes, md5 } of STL10_FILES) {
    const file = join(directory, name);
    if ((await stat(file)).size !== bytes) return false;
    const found = await md5Of(file, signal);
    sums.push({ name, md5: found, right: found === md5 });
  }
  const wrong = sums.find(({ right }) => !right);
  if (wrong === undefined) return true;
  if (!sums.some(({ right }) => right)) return false;
  const facts = STL10_FILES.find(({ name }) => name === wrong.name)!;
  throw wrongChecksum(join(directory, wrong.name), facts.bytes, wrong.md5, facts.md5);
}

async function md5Of(file: string, signal: AbortSignal | undefined): Promise<string> {
  const hash = createHash("md5");
  for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20, ...(signal && { signal }) })) {
    hash.update(chunk);
  }
  return hash.digest("hex");
}
