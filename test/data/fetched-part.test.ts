import { existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { DataServer } from "../../coordinator/data-server.ts";
import { openDataset, trainingSha256 } from "../../shared/data/dataset.ts";
import { chooseImages, type TrainingPart } from "../../shared/data/training-part.ts";
import { deal } from "../../shared/plan/deal.ts";
import type { Channel } from "../../worker/coordinator-calls.ts";
import { dataFor } from "../../worker/data/fetched-data.ts";
import { temporary, writeSmallSet } from "./support.ts";

const LABELS = Array.from({ length: 60 }, (_, i) => (i % 3) + 1);
const BYTES = 60;
const FOLDS = `${Array.from({ length: 20 }, (_, i) => 59 - i).join(" ")}\n0 1 2\n`;

/** A worker that has nothing, beside the coordinator of a run of this part. */
async function worker(directory: string, part: TrainingPart, cache: string) {
  const sha256 = await trainingSha256(directory);
  const server = new DataServer(openDataset(directory, part), sha256);
  const client = {
    pullData: ({ part: asked, ids }: { part: string; ids: readonly number[] }) =>
      Object.assign(server.serve(asked, ids), { cancel() {} }),
  };
  const channel = (() => client) as unknown as Channel;
  const recipe = { seed: 5, shards: 4, data: { sha256 }, trainingPart: part };
  const where = { named: "fetch", usual: directory, trusted: false, run: "run" };
  const { fetched } = await dataFor({ ...where, recipe, cache, channel });
  return fetched!;
}

/** Places of the images that have come into a file: of the small set, none is empty. */
function placesIn(file: string): number[] {
  const bytes = readFileSync(file);
  const places = Array.from({ length: bytes.length / BYTES }, (_, place) => place);
  return places.filter((place) => bytes.subarray(place * BYTES, (place + 1) * BYTES).some((byte) => byte !== 0));
}

const sorted = (ids: Iterable<number>) => [...ids].sort((a, b) => a - b);

test("a worker without the data set fetches what its shards train on and what is held out, and no test image", async () => {
  const directory = writeSmallSet(temporary("part"), { train: LABELS, test: [1, 2, 3] });
  for (const name of ["test_X.bin", "test_y.bin"]) rmSync(join(directory, name));
  const part = { kind: "holdOut", oneIn: 5, seed: 5 } as const;
  const { trained, heldOut } = chooseImages(part, LABELS, []);
  const cache = temporary("cache");
  const fetched = await worker(directory, part, cache);
  const file = join(fetched.directory, "train_X.bin");
  await fetched.shards({ from: 1, to: 2 });
  const labels = [...trained].map((place) => LABELS[place]! - 1);
  const mine = sorted([...deal(labels, 4, 5)[1]!].map((id) => trained[id]!));
  expect(placesIn(file)).toEqual(mine);
  await fetched.test(0, 100);
  expect(placesIn(file)).toEqual(sorted([...mine, ...heldOut!]));
  expect(existsSync(join(fetched.directory, "test_X.bin"))).toBe(false);
  await fetched.shards({ from: 0, to: 4 });
  expect(readFileSync(file).equals(readFileSync(join(directory, "train_X.bin")))).toBe(true);
});

test("of a fold it fetches that fold alone and the test images, which a run with images held out leaves where they are", async () => {
  const directory = writeSmallSet(temporary("part"), { train: LABELS, test: [1, 2, 3], folds: FOLDS });
  const cache = temporary("cache");
  const fetched = await worker(directory, { kind: "fold", fold: 1 }, cache);
  await fetched.shards({ from: 0, to: 4 });
  await fetched.test(0, 100);
  expect(placesIn(join(fetched.directory, "train_X.bin"))).toEqual(Array.from({ length: 20 }, (_, i) => 40 + i));
  const test = join(fetched.directory, "test_X.bin");
  expect(placesIn(test)).toEqual([0, 1, 2]);
  await worker(directory, { kind: "holdOut", oneIn: 5, seed: 5 }, cache);
  expect(placesIn(test)).toEqual([0, 1, 2]);
});
