import { existsSync, mkdirSync } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type Dataset, openDataset, trainingSha256 } from "../../shared/data/dataset.ts";
import {
  type DataListing,
  decodeListing,
  isImage,
  MOST_ASKED_IMAGES,
  MOST_LISTING_BYTES,
  otherData,
} from "../../shared/data/listing.ts";
import type { SplitName } from "../../shared/data/split.ts";
import { evaluatedOn, type TrainingPart } from "../../shared/data/training-part.ts";
import { LockstepError, sentenceOf } from "../../shared/errors.ts";
import { deal } from "../../shared/plan/deal.ts";
import type { ShardRange } from "../../shared/plan/tree.ts";
import { type Channel, piecesOf } from "../coordinator-calls.ts";
import { writeWhole } from "../evaluation/whole-file.ts";

/** Attempts for one portion that fail, with a pause after each. */
const TRIES = 150;
const PAUSE_MILLIS = 200;

/** As --data: from the coordinator, whatever is on this machine. */
export const FETCH = "fetch";

/** What of the recipe says who holds which images. */
interface DealtRecipe {
  readonly seed: number;
  readonly shards: number;
  readonly data: { readonly sha256: string };
  readonly trainingPart?: TrainingPart | undefined;
}

/**
 * Where a worker finds its data set. What was named with --data must be the run's; where the run's own directory is not
 * on this machine, or holds something else, the images come from the coordinator as they are needed.
 * @returns the directory, and what fetches images into it; null: all of them are there
 * @throws LockstepError LS_DATA_DIFFERS naming both hashes, LS_DATA_MISSING and others of the data set, LS_DATA_FETCH
 */
export async function dataFor(options: {
  readonly named: string | null;
  readonly usual: string;
  /** It is the coordinator's own directory: nobody joins an unsecured run from another machine. */
  readonly trusted: boolean;
  readonly run: string;
  readonly recipe: DealtRecipe;
  readonly cache: string;
  readonly channel: Channel;
}): Promise<{ readonly directory: string; readonly fetched: FetchedData | null }> {
  const { named, usual, trusted, recipe, run, cache, channel } = options;
  const wanted = recipe.data.sha256;
  const heldOut = evaluatedOn(recipe.trainingPart) === "held-out";
  if (named !== null && named !== FETCH) {
    const found = await trainingSha256(named).catch(() => null);
    // A directory that cannot be read is named by whoever opens it, file by file.
    if (found !== null && found !== wanted) throw otherData(named, found, wanted);
    return { directory: named, fetched: null };
  }
  const whole = named === null && existsSync(join(usual, `${heldOut ? "train" : "test"}_X.bin`));
  const local = whole ? (trusted ? wanted : await trainingSha256(usual).catch(() => null)) : null;
  if (local === wanted) return { directory: usual, fetched: null };
  const fetched = await FetchedData.open(join(cache, "data", `run-${wanted.slice(0, 32)}`), run, recipe, channel);
  return { directory: fetched.directory, fetched };
}

/**
 * A data set that arrives image by image, in files of the usual layout that are full of holes at first. An image counts
 * as there once its bytes have the listed hash, so that several workers may fill one cache, and a torn write is fetched
 * again. What was fetched once stays for later runs; a shard that changes hands moves once.
 */
export class FetchedData {
  readonly directory: string;
  /** Bytes that came over the network in this process. */
  fetchedBytes = 0;
  readonly #run: string;
  readonly #listing: DataListing;
  readonly #channel: Channel;
  /** For labels and places; no image is read through it. */
  readonly #dataset: Dataset;
  readonly #dealt: readonly Int32Array[];
  readonly #there: Record<SplitName, Uint8Array>;
  /** Shards whose training images are all there. */
  readonly #whole = new Set<number>();
  /** One at a time: what is wanted twice is fetched once. */
  #queue: Promise<void> = Promise.resolve();

  private constructor(directory: string, run: string, listing: DataListing, recipe: DealtRecipe, channel: Channel) {
    this.directory = directory;
    this.#run = run;
    this.#listing = listing;
    this.#channel = channel;
    this.#dataset = openDataset(directory, recipe.trainingPart);
    this.#dealt = deal(this.#dataset.train.labels, recipe.shards, recipe.seed);
    const { train, test } = listing.counts;
    this.#there = { train: new Uint8Array(train), test: new Uint8Array(test) };
  }

  /** @throws LockstepError LS_DATA_FETCH, LS_DATA_LISTING, LS_DATA_DIFFERS, or as openDataset */
  static async open(directory: string, run: string, recipe: DealtRecipe, channel: Channel): Promise<FetchedData> {
    const listing = await again("the list of its images", async () => {
      const parts: Buffer[] = [];
      for await (const piece of piecesOf(
        asked(channel).pullData({ run, part: "listing", ids: [] }),
        MOST_LISTING_BYTES,
      ))
        parts.push(piece);
      return decodeListing(Buffer.concat(parts));
    });
    if (listing.sha256 !== recipe.data.sha256)
      throw otherData("The coordinator's directory", listing.sha256, recipe.data.sha256);
    mkdirSync(directory, { recursive: true });
    for (const [name, bytes] of Object.entries(listing.small)) writeWhole(join(directory, name), bytes);
    for (const split of ["train", "test"] as const) {
      // Where a run holds images out, the test images of others may lie there.
      if (listing.counts[split] === 0) continue;
      const file = await open(join(directory, `${split}_X.bin`), "a");
      await file.truncate(listing.counts[split] * listing.imageBytes).finally(() => file.close());
    }
    return new FetchedData(directory, run, listing, recipe, channel);
  }

  /** Null where all training images of these shards are there, else a promise of it. */
  shards({ from, to }: ShardRange): Promise<void> | null {
    const lacking = range(from, to).filter((shard) => !this.#whole.has(shard));
    if (lacking.length === 0) return null;
    const { train } = this.#dataset;
    const wanted = () => lacking.flatMap((shard) => [...(this.#dealt[shard] ?? [])].map((id) => train.placeOf(id)));
    const coming = this.#ensure("train", wanted);
    return (coming ?? Promise.resolve()).then(() => {
      for (const shard of lacking) this.#whole.add(shard);
    });
  }

  /** Null where these images of the evaluation are there, else a promise of it. */
  test(from: number, to: number): Promise<void> | null {
    const { test } = this.#dataset;
    return this.#ensure(test.name, () => range(from, Math.min(to, test.count)).map((id) => test.placeOf(id)));
  }

  #ensure(split: SplitName, wanted: () => number[]): Promise<void> | null {
    const lacking = () => wanted().filter((id) => this.#there[split][id] === 0);
    if (lacking().length === 0) return null;
    const turn = this.#queue.then(() => this.#fill(split, lacking()));
    this.#queue = turn.catch(() => {});
    return turn;
  }

  async #fill(split: SplitName, ids: number[]): Promise<void> {
    const file = await open(join(this.directory, `${split}_X.bin`), "r+");
    try {
      const missing: number[] = [];
      const image = Buffer.alloc(this.#listing.imageBytes);
      for (const id of ids) {
        await file.read(image, 0, image.length, id * image.length);
        if (isImage(this.#listing, split, id, image)) this.#there[split][id] = 1;
        else missing.push(id);
      }
      for (let from = 0; from < missing.length; from += MOST_ASKED_IMAGES) {
        const portion = missing.slice(from, from + MOST_ASKED_IMAGES);
        await again(`${portion.length} ${split} images`, () => this.#fetch(file, split, portion));
      }
    } finally {
      await file.close();
    }
  }

  /** An attempt after another one asks only for what has not come. */
  async #fetch(file: FileHandle, split: SplitName, portion: readonly number[]): Promise<void> {
    const ids = portion.filter((id) => this.#there[split][id] === 0);
    const { imageBytes } = this.#listing;
    const image = Buffer.alloc(imageBytes);
    let [next, filled] = [0, 0];
    const call = asked(this.#channel).pullData({ run: this.#run, part: split, ids });
    for await (const piece of piecesOf(call, ids.length * imageBytes)) {
      for (let at = 0; at < piece.length; ) {
        const taken = piece.copy(image, filled, at, Math.min(piece.length, at + imageBytes - filled));
        at += taken;
        filled += taken;
        if (filled < imageBytes) continue;
        const id = ids[next]!;
        if (!isImage(this.#listing, split, id, image)) throw new Error(`${split} image ${id} has another hash`);
        await writeAt(file, image, id * imageBytes);
        this.#there[split][id] = 1;
        this.fetchedBytes += imageBytes;
        next += 1;
        filled = 0;
      }
    }
    if (next < ids.length) throw new Error(`${next} of ${ids.length} images came`);
  }
}

/** On a disk that fills up, a write may take a part of what it is given. */
async function writeAt(file: FileHandle, bytes: Buffer, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; )
    done += (await file.write(bytes, done, bytes.length - done, position + done)).bytesWritten;
}

const range = (from: number, to: number): number[] =>
  Array.from({ length: Math.max(0, to - from) }, (_, i) => from + i);

function asked(channel: Channel): NonNullable<ReturnType<Channel>> {
  const client = channel();
  if (client === null) throw new Error("the coordinator is away");
  return client;
}

/** It serves others, or nobody coordinates: neither says anything about the data, and a slow line or a crash takes its time. */
const comesLater = (why: string): boolean => /LS_DATA_BUSY/.test(why) || (/UNAVAILABLE/.test(why) && !/LS_/.test(why));

async function again<T>(what: string, work: () => Promise<T>): Promise<T> {
  let cause: unknown;
  for (let left = TRIES; left > 0; await sleep(PAUSE_MILLIS)) {
    try {
      return await work();
    } catch (error) {
      if (error instanceof LockstepError) throw error;
      cause = error;
      const why = sentenceOf(error);
      if (/LS_DATA_(?:DIFFERS|ASKED|TRUNCATED)/.test(why)) break;
      if (!comesLater(why)) left -= 1;
    }
  }
  throw new LockstepError("LS_DATA_FETCH", `The run's data set does not come: ${what}: ${sentenceOf(cause)}.`, {
    hint: "Give the data set on this machine with --data.",
    exitCode: 3,
    cause,
  });
}
