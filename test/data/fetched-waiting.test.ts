import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it, vi } from "vitest";
import { DataServer } from "../../coordinator/data-server.ts";
import { openDataset, trainingSha256 } from "../../shared/data/dataset.ts";
import type { Channel } from "../../worker/coordinator-calls.ts";
import { FetchedData } from "../../worker/data/fetched-data.ts";
import { temporary, writeSmallSet } from "./support.ts";

// Pauses between attempts pass at once.
vi.mock("node:timers/promises", () => ({ setTimeout: () => new Promise((resolve) => setImmediate(resolve)) }));

const same = (image: Buffer) => image;

/** A coordinator whose first calls fail with this. @param change what becomes of images on their way */
async function opened(failure: string, times: number, change = same): Promise<FetchedData> {
  const folder = temporary("waiting");
  const directory = writeSmallSet(join(folder, "data"), { train: [1, 2, 1, 2], test: [1, 2] });
  const sha256 = await trainingSha256(directory);
  const server = new DataServer(openDataset(directory), sha256);
  let left = times;
  async function* answers(part: string, ids: readonly number[]) {
    if (left-- > 0) throw new Error(failure);
    for await (const piece of server.serve(part, ids)) yield part === "listing" ? piece : change(piece);
  }
  const client = {
    pullData: ({ part, ids }: { part: string; ids: number[] }) => Object.assign(answers(part, ids), { cancel() {} }),
  };
  const channel = (() => client) as unknown as Channel;
  return FetchedData.open(join(folder, "cache"), "run", { seed: 1, shards: 2, data: { sha256 } }, channel);
}

it.each([
  ["serves others", "9 FAILED_PRECONDITION: LS_DATA_BUSY: Others are being served."],
  ["is away", "14 UNAVAILABLE: No connection established."],
])("a worker waits for its images while the coordinator %s", async (_what, failure) => {
  const fetched = await opened(failure, 1000);
  await fetched.shards({ from: 0, to: 2 });
  expect(fetched.fetchedBytes).toBe(4 * 60);
});

it.each([
  ["cannot read them", "14 UNAVAILABLE: LS_DATA_READ: EIO"],
  ["has others", "9 FAILED_PRECONDITION: LS_DATA_DIFFERS: holds others"],
])("it gives up, with the reason, where the coordinator %s", async (_what, failure) => {
  await expect(opened(failure, 1000)).rejects.toMatchObject({
    code: "LS_DATA_FETCH",
    message: expect.stringContaining(failure),
  });
});

it("takes no image whose bytes are not those of the data set, and asks for it again", async () => {
  let wrong = 2;
  const flipped = (image: Buffer) => Buffer.from(image.map((byte, at) => (at === 0 ? byte ^ 1 : byte)));
  const change = (image: Buffer) => (wrong-- > 0 ? flipped(image) : image);
  const fetched = await opened("", 0, change);
  await fetched.shards({ from: 0, to: 2 });
  const here = readFileSync(join(fetched.directory, "train_X.bin"));
  const whole = Buffer.from(Uint8Array.from({ length: 4 * 60 }, (_, i) => i % 251));
  expect(here.equals(whole)).toBe(true);
  const never = await opened("", 0, flipped);
  await expect(never.shards({ from: 0, to: 2 })).rejects.toMatchObject({ code: "LS_DATA_FETCH" });
});
