import { createHash } from "node:crypto";
import { z } from "zod";
import { LockstepError } from "../errors.ts";
import type { SplitName } from "./split.ts";
import { FOLDS_FILE, NAMES_FILE, SHAPE_FILE } from "./stl10.ts";

/**
 * What a machine without the data set needs to know of it: its small files, and a SHA-256 of every image of both splits,
 * so that any part of it can be fetched from anybody and checked. A run that holds images out lists no test images. On the wire: u32 length (little-endian) of a JSON
 * header, the header, then 32 bytes for each training and each test image.
 */
export interface DataListing {
  /** SHA-256 of the training files: the recipe's name for the data set. */
  readonly sha256: string;
  /** Bytes of one image. */
  readonly imageBytes: number;
  readonly counts: Readonly<Record<SplitName, number>>;
  /** Labels, names, folds and shape, by their file names. */
  readonly small: Readonly<Record<string, Buffer>>;
  /** 32 bytes for each image. */
  readonly hashes: Readonly<Record<SplitName, Buffer>>;
}

export const HASH_BYTES = 32;
/** Images whose hashes a listing may hold: 64 MiB of them. */
const MOST_IMAGES = 1 << 20;
export const MOST_LISTING_BYTES = (16 << 20) + 2 * MOST_IMAGES * HASH_BYTES;
/** Images that one request may ask for. */
export const MOST_ASKED_IMAGES = 1024;

const LABELS = ["train_y.bin", "test_y.bin"] as const;
/** Files that travel whole, with the listing; nothing else that a peer names ever becomes a path. */
export const SMALL_FILES = [...LABELS, NAMES_FILE, FOLDS_FILE, SHAPE_FILE] as const;

const count = z.number().int().min(0).max(MOST_IMAGES);
const headerSchema = z.strictObject({
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  imageBytes: z
    .number()
    .int()
    .min(1)
    .max(2 ** 30),
  counts: z.strictObject({ train: count.min(1), test: count }),
  small: z.partialRecord(z.enum(SMALL_FILES), z.base64()),
});

export function encodeListing({ small, hashes, ...facts }: DataListing): Buffer {
  const texts = Object.entries(small).map(([name, bytes]) => [name, bytes.toString("base64")]);
  const header = Buffer.from(JSON.stringify({ ...facts, small: Object.fromEntries(texts) }));
  const length = Buffer.alloc(4);
  length.writeUInt32LE(header.length);
  return Buffer.concat([length, header, hashes.train, hashes.test]);
}

/** @throws LockstepError LS_DATA_LISTING */
export function decodeListing(bytes: Buffer): DataListing {
  try {
    const length = bytes.readUInt32LE(0);
    if (4 + length > bytes.length) throw new RangeError("its header is cut off");
    const { small: texts, ...header } = headerSchema.parse(JSON.parse(bytes.toString("utf8", 4, 4 + length)));
    const { train, test } = header.counts;
    const hashes = bytes.subarray(4 + length);
    if (hashes.length !== (train + test) * HASH_BYTES) throw new RangeError("its hashes are not one for each image");
    const small = Object.fromEntries(
      Object.entries(texts).map(([name, text]) => [name, Buffer.from(text ?? "", "base64")]),
    );
    if (small["train_y.bin"]?.length !== train || (small["test_y.bin"]?.length ?? 0) !== test)
      throw new RangeError("its labels are not one for each image");
    const middle = train * HASH_BYTES;
    return { ...header, small, hashes: { train: hashes.subarray(0, middle), test: hashes.subarray(middle) } };
  } catch (cause) {
    throw new LockstepError("LS_DATA_LISTING", `The list of the data set cannot be read: ${reasonIn(cause)}.`, {
      hint: "Do all processes run the same version of Lockstep?",
      cause,
    });
  }
}

/** Whether these bytes are image `id` of the split. */
export const isImage = (listing: DataListing, split: SplitName, id: number, bytes: Uint8Array): boolean =>
  createHash("sha256")
    .update(bytes)
    .digest()
    .equals(listing.hashes[split].subarray(id * HASH_BYTES, (id + 1) * HASH_BYTES));

const reasonIn = (error: unknown): string =>
  error instanceof z.ZodError
    ? `${error.issues[0]?.path.join(".") ?? ""}: ${error.issues[0]?.message ?? "unknown"}`
    : String((error as Error).message);

/** Another data set than the run's, both named by their hashes. */
export const otherData = (directory: string, found: string, wanted: string): LockstepError =>
  new LockstepError(
    "LS_DATA_DIFFERS",
    `${directory} holds the training data ${found}; this run trains on ${wanted} (SHA-256).`,
    {
      hint: "Give the run's data set with --data, or leave --data out: the worker fetches what it needs.",
      exitCode: 3,
    },
  );
