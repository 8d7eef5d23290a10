import { createHash } from "node:crypto";
import { existsSync, readFileSync, statSync } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { join } from "node:path";
import type { Dataset } from "../shared/data/dataset.ts";
import {
  type DataListing,
  encodeListing,
  HASH_BYTES,
  MOST_ASKED_IMAGES,
  otherData,
  SMALL_FILES,
} from "../shared/data/listing.ts";
import type { SplitName } from "../shared/data/split.ts";
import { LockstepError } from "../shared/errors.ts";

/** Calls that are served at one time; the others are asked to come back, so that reading never crowds out ruling. */
const MOST_CALLS = 4;
const PIECE_BYTES = 1 << 20;

/** Gives workers without the data set the images that they ask for. All reading is asynchronous and in small pieces. */
export class DataServer {
  readonly #dataset: Dataset;
  readonly #sha256: string;
  /** Of the files, whichever of their images the run trains on; where it holds some out, the test images stay closed. */
  readonly #counts: Readonly<Record<SplitName, number>>;
  #listing: Promise<Buffer> | null = null;
  #calls = 0;

  /** @param sha256 what the recipe calls the data set */
  constructor(dataset: Dataset, sha256: string) {
    this.#dataset = dataset;
    this.#sha256 = sha256;
    const stored = statSync(this.#file("train")).size / imageBytesOf(dataset);
    this.#counts = { train: stored, test: dataset.test.name === "test" ? dataset.test.count : 0 };
  }

  /**
   * The listing, or images one after the other as their files hold them.
   * @param part `listing`, `train` or `test`
   * @throws LockstepError LS_DATA_BUSY (come back), LS_DATA_ASKED, LS_DATA_DIFFERS where the files are not the run's any more
   */
  async *serve(part: string, ids: readonly number[]): AsyncGenerator<Buffer> {
    if (this.#calls >= MOST_CALLS) throw new LockstepError("LS_DATA_BUSY", "Others are being served.");
    this.#calls += 1;
    try {
      if (part === "listing") yield* pieces(await this.#listed());
      else if (part === "train" || part === "test") yield* this.#images(part, ids);
      else throw asked(`there is no part "${part.slice(0, 40)}"`);
    } finally {
      this.#calls -= 1;
    }
  }

  async *#images(split: SplitName, ids: readonly number[]): AsyncGenerator<Buffer> {
    const count = this.#counts[split];
    if (ids.length > MOST_ASKED_IMAGES) throw asked(`${ids.length} images at once`);
    const wrong = ids.find((id) => !(id < count));
    if (wrong !== undefined) throw asked(`image ${wrong} of ${count}`);
    const bytes = imageBytesOf(this.#dataset);
    const file = await open(this.#file(split), "r");
    try {
      for (const id of ids) yield* pieces(await readImage(file, id, bytes));
    } finally {
      await file.close();
    }
  }

  #listed(): Promise<Buffer> {
    this.#listing ??= this.#list().catch((error: unknown) => {
      this.#listing = null;
      throw error;
    });
    return this.#listing;
  }

  async #list(): Promise<Buffer> {
    const { directory } = this.#dataset;
    const imageBytes = imageBytesOf(this.#dataset);
    const whole = createHash("sha256");
    const hashes: DataListing["hashes"] = {
      train: await this.#hashes("train", imageBytes, (image) => void whole.update(image)),
      test: await this.#hashes("test", imageBytes, () => {}),
    };
    const told = SMALL_FILES.filter((name) => name !== "test_y.bin" || this.#counts.test > 0);
    const names = told.filter((name) => existsSync(join(directory, name)));
    const small = Object.fromEntries(names.map((name) => [name, readFileSync(join(directory, name))]));
    const sha256 = whole.update(small["train_y.bin"]!).digest("hex");
    if (sha256 !== this.#sha256) throw otherData(directory, sha256, this.#sha256);
    return encodeListing({ sha256, imageBytes, counts: this.#counts, small, hashes });
  }

  async #hashes(split: SplitName, bytes: number, each: (image: Buffer) => void): Promise<Buffer> {
    const count = this.#counts[split];
    const hashes = Buffer.alloc(count * HASH_BYTES);
    if (count === 0) return hashes;
    const file = await open(this.#file(split), "r");
    try {
      for (let id = 0; id < count; id++) {
        const image = await readImage(file, id, bytes);
        each(image);
        createHash("sha256")
          .update(image)
          .digest()
          .copy(hashes, id * HASH_BYTES);
      }
    } finally {
      await file.close();
    }
    return hashes;
  }

  #file = (split: SplitName): string => join(this.#dataset.directory, `${split}_X.bin`);
}

const imageBytesOf = ({ shape: { channels, height, width } }: Dataset): number => channels * height * width;

async function readImage(file: FileHandle, id: number, bytes: number): Promise<Buffer> {
  const image = Buffer.alloc(bytes);
  let done = 0;
  while (done < bytes) {
    const { bytesRead } = await file.read(image, done, bytes - done, id * bytes + done);
    if (bytesRead === 0) throw new LockstepError("LS_DATA_TRUNCATED", `Image ${id} is not whole any more.`);
    done += bytesRead;
  }
  return image;
}

function* pieces(bytes: Buffer): Generator<Buffer> {
  for (let from = 0; from < bytes.length; from += PIECE_BYTES) yield bytes.subarray(from, from + PIECE_BYTES);
}

const asked = (what: string) => new LockstepError("LS_DATA_ASKED", `What was asked for cannot be: ${what}.`);
