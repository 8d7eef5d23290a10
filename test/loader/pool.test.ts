import { truncateSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { openDataset } from "../../shared/data/dataset.ts";
import { idsDigest } from "../../shared/plan/digest.ts";
import { Plan } from "../../shared/plan/plan.ts";
import { Augmenter } from "../../worker/loader/augment.ts";
import { Mixer } from "../../worker/loader/mix.ts";
import type { LoaderPool, MicroBatch } from "../../worker/loader/pool.ts";
import { builtThread } from "../../worker/loader/thread-file.ts";
import { coded, temporary } from "../data/support.ts";
import { poolOf, SHAPE, smallData, smallRecipe } from "./support.ts";

const open: LoaderPool[] = [];
const start = (options: Parameters<typeof poolOf>[0] = {}) => {
  const parts = poolOf(options);
  open.push(parts.pool);
  return parts;
};
afterEach(async () => {
  await Promise.all(open.splice(0).map((pool) => pool.close()));
});

const idsOf = (memory: WebAssembly.Memory, batch: MicroBatch) => [
  ...new Int32Array(memory.buffer, batch.ids, batch.samples),
];
const pixelsOf = (memory: WebAssembly.Memory, batch: MicroBatch) =>
  new Float32Array(memory.buffer, batch.images, batch.samples * batch.side ** 2 * SHAPE.channels).slice();
const everything = Array.from({ length: 6 * 4 }, (_, i) => ({ step: Math.floor(i / 4), shard: i % 4 }));

describe("the loader pool", () => {
  it.each([1, 3])("delivers what the plan says, pixel by pixel, with %i threads", (threads) => {
    const { pool, memory, recipe, dataDirectory } = start({ threads });
    const dataset = openDataset(dataDirectory);
    const plan = new Plan({ ...recipe, labels: dataset.train.labels });
    const augmenter = new Augmenter(recipe.augmentation, SHAPE, recipe.seed);
    const stored = new Uint8Array(SHAPE.height * SHAPE.width * SHAPE.channels);
    for (const [i, { step, shard }] of everything.entries()) {
      pool.prefetch(everything.slice(i));
      const batch = pool.take(step, shard);
      const ids = [...plan.microBatch(step, shard)];
      expect(idsOf(memory, batch)).toEqual(ids);
      expect(batch.digest).toBe(idsDigest(ids));
      expect(batch.side).toBe(step < 3 ? 8 : 12);
      expect(batch).toMatchObject({ step, shard, samples: ids.length });
      expect([batch.images % 64, batch.labels % 64, batch.ids % 64]).toEqual([0, 0, 0]);
      expect([...new Int32Array(memory.buffer, batch.labels, batch.samples)]).toEqual(ids.map((id) => id % 4));
      const expected = ids.flatMap((id) => {
        const into = new Float32Array(batch.side ** 2 * SHAPE.channels);
        dataset.train.read(id, stored);
        augmenter.train(stored, step < 3 ? 0 : 1, id, batch.side, into);
        return [...into];
      });
      expect([...pixelsOf(memory, batch)]).toEqual(expected);
      pool.release(batch.slot);
    }
    dataset.close();
  });

  it("mixes the images of a micro-batch with each other where the recipe says so, whoever prepares it", () => {
    const mixing = { probability: 0.8, cutmix: 0.5, alpha: 0.5 };
    const batches = [1, 3].map((threads) => {
      const { pool, memory, recipe, dataDirectory } = start({ threads, recipe: smallRecipe({ mixing }) });
      const dataset = openDataset(dataDirectory);
      const augmenter = new Augmenter(recipe.augmentation, SHAPE, recipe.seed);
      const mixer = new Mixer(mixing, SHAPE.channels, recipe.seed);
      const stored = new Uint8Array(SHAPE.height * SHAPE.width * SHAPE.channels);
      const found = everything.map(({ step, shard }, i) => {
        pool.prefetch(everything.slice(i));
        const batch = pool.take(step, shard);
        const ids = Int32Array.from(idsOf(memory, batch));
        const pixels = batch.side ** 2 * SHAPE.channels;
        const images = new Float32Array(ids.length * pixels);
        const labels = ids.map((id) => id % 4);
        const [otherLabels, shares] = [new Int32Array(ids.length), new Float32Array(ids.length)];
        ids.forEach((id, at) => {
          dataset.train.read(id, stored);
          augmenter.train(stored, step < 3 ? 0 : 1, id, batch.side, images.subarray(at * pixels, (at + 1) * pixels));
        });
        mixer.mix({ images, labels, ids, otherLabels, shares }, step < 3 ? 0 : 1, batch.side);
        expect(pixelsOf(memory, batch)).toEqual(images);
        const { labels: others, shares: own } = batch.mixed!;
        expect(new Int32Array(memory.buffer, others, ids.length).slice()).toEqual(otherLabels);
        expect(new Float32Array(memory.buffer, own, ids.length).slice()).toEqual(shares);
        pool.release(batch.slot);
        return [...shares];
      });
      dataset.close();
      return found;
    });
    expect(batches[1]).toEqual(batches[0]);
    expect(new Set(batches[0]!.flat()).size).toBeGreaterThan(20);
  });

  it("feeds every sample exactly once an epoch", () => {
    const { pool, memory } = start();
    const fed: number[] = [];
    for (const { step, shard } of everything.slice(0, 12)) {
      const batch = pool.take(step, shard);
      fed.push(...idsOf(memory, batch));
      pool.release(batch.slot);
    }
    expect(fed.sort((a, b) => a - b)).toEqual(Array.from({ length: 53 }, (_, id) => id));
  });

  it("delivers in any order, also what was not asked for ahead or is asked for again", () => {
    const { pool, memory } = start({ count: 2 });
    const first = pool.take(4, 2);
    const before = idsOf(memory, first);
    const pixels = pixelsOf(memory, first);
    pool.release(first.slot);
    pool.prefetch(everything);
    for (const { step, shard } of everything.slice(8, 16)) pool.release(pool.take(step, shard).slot);
    const again = pool.take(4, 2);
    expect(idsOf(memory, again)).toEqual(before);
    expect(pixelsOf(memory, again)).toEqual(pixels);
  });

  it("makes room for another range of shards without being told to drop the old one", () => {
    const { pool } = start({ count: 3 });
    const range = (step: number, shards: number[]) => shards.map((shard) => ({ step, shard }));
    pool.prefetch(range(0, [0, 1, 2]));
    pool.release(pool.take(0, 1).slot);
    pool.release(pool.take(0, 2).slot); // Loaded in order: shard 0 is ready as well, and stays.
    expect(pool.ready()).toBe(1);
    pool.prefetch(range(1, [2, 3, 1]));
    for (const shard of [2, 3]) pool.release(pool.take(1, shard).slot);
    pool.prefetch([...range(1, [1]), ...range(4, [0])]);
    pool.take(4, 0);
    expect(pool.ready()).toBe(1);
    pool.take(1, 1);
    expect(pool.ready()).toBe(0);
  });

  it("drops everything at once when asked to, and goes on", () => {
    const { pool, memory, recipe, dataDirectory } = start({ count: 3, threads: 2 });
    const dataset = openDataset(dataDirectory);
    const plan = new Plan({ ...recipe, labels: dataset.train.labels });
    for (let round = 0; round < 50; round++) {
      pool.prefetch(everything.slice(round % 12));
      if (round % 3 === 0) pool.release(pool.take(0, round % 4).slot);
      pool.cancelAll();
      const { step, shard } = everything[(round * 7) % 24]!;
      const batch = pool.take(step, shard);
      expect(idsOf(memory, batch)).toEqual([...plan.microBatch(step, shard)]);
      pool.release(batch.slot);
    }
  });

  it("leaves a taken slot alone until it is released", () => {
    const { pool, memory } = start({ count: 2 });
    const held = pool.take(0, 0);
    const before = pixelsOf(memory, held);
    pool.cancelAll();
    for (const { step, shard } of everything.slice(1, 9)) pool.release(pool.take(step, shard).slot);
    expect(pixelsOf(memory, held)).toEqual(before);
    const second = pool.take(3, 3);
    expect(coded("LS_LOADER_SLOTS", () => pool.take(3, 2)).message).toContain("All 2 slots");
    pool.release(held.slot);
    expect(pool.take(3, 2).slot).toBe(held.slot);
    expect(second.slot).not.toBe(held.slot);
  });

  it("goes on when the memory grows", () => {
    const { pool, memory } = start();
    pool.release(pool.take(0, 0).slot);
    memory.grow(16);
    const batch = pool.take(0, 1);
    expect(idsOf(memory, batch).length).toBe(batch.samples);
  });

  it.each(["skip", "repeat"] as const)("really feeds a sample wrongly with the fault %s", (kind) => {
    const sample = 17;
    const { pool, memory } = start({ fault: { kind, sample } });
    const fed: number[] = [];
    for (const { step, shard } of everything.slice(0, 12)) {
      const batch = pool.take(step, shard);
      const ids = idsOf(memory, batch);
      expect(batch.digest).toBe(idsDigest(ids));
      if (kind === "repeat" && ids.includes(sample)) {
        // Not the id alone: the pixels are there twice as well.
        const at = ids.indexOf(sample);
        const image = pixelsOf(memory, batch).length / ids.length;
        const pixels = pixelsOf(memory, batch);
        expect(pixels.slice(at * image, (at + 1) * image)).toEqual(pixels.slice((at + 1) * image, (at + 2) * image));
      }
      fed.push(...ids);
      pool.release(batch.slot);
    }
    expect(fed.length).toBe(kind === "skip" ? 52 : 54);
    expect(fed.filter((id) => id === sample).length).toBe(kind === "skip" ? 0 : 2);
  });
});

const scriptUrl = (script: string) => new URL(`data:text/javascript,${encodeURIComponent(script)}`);

describe("what the loader pool says when it cannot deliver", () => {
  it("that the data set is not there", () => {
    const dataDirectory = temporary("empty");
    const { pool } = start({ dataDirectory });
    const error = coded("LS_LOADER_DIED", () => pool.take(0, 0));
    expect(error.message).toContain(`${join(dataDirectory, "train_y.bin")} is missing.`);
  });

  it("that it is another data set than the run's", () => {
    const recipe = smallRecipe();
    const { pool } = start({ recipe: { ...recipe, data: { ...recipe.data, trainImages: 54 } } });
    expect(coded("LS_LOADER_DIED", () => pool.take(0, 0)).message).toContain(
      "planned for 54 training images of 3x12x12 in 4 classes",
    );
  });

  it("which file ended at which byte, and goes on with the images before it", () => {
    const dataDirectory = smallData();
    const { pool, memory } = start({ dataDirectory });
    pool.release(pool.take(0, 0).slot);
    truncateSync(join(dataDirectory, "train_X.bin"), 40 * 432 + 5);
    const failures = everything.slice(1, 12).filter(({ step, shard }) => {
      try {
        const batch = pool.take(step, shard);
        expect(Math.max(...idsOf(memory, batch))).toBeLessThan(40);
        pool.release(batch.slot);
        return false;
      } catch {
        return true;
      }
    });
    expect(failures.length).toBeGreaterThan(0);
    const { step, shard } = failures[0]!;
    const error = coded("LS_LOADER_FAILED", () => pool.take(step, shard));
    expect(error.message).toMatch(
      new RegExp(
        `^Step ${step}, shard ${shard} could not be loaded: .*train_X.bin ends at byte \\d+; image \\d+ ends at`,
      ),
    );
  });

  it("that a thread has ended", () => {
    // The thread's first attempt to take a job ends it, as a fatal error of its own would.
    const script = `Atomics.compareExchange = () => process.exit(7); await import(${JSON.stringify(builtThread().href)});`;
    const { pool } = start({ threadFile: scriptUrl(script) });
    expect(coded("LS_LOADER_DIED", () => pool.take(0, 0)).message).toBe(
      "Images cannot be loaded any more: loader thread 0 ended with code 7",
    );
  });

  it("what its threads are doing when nothing comes for too long", () => {
    const { pool } = start({ threadFile: scriptUrl("setInterval(() => {}, 1000)"), threads: 2, longestWait: 50 });
    expect(coded("LS_LOADER_LATE", () => pool.take(3, 1)).message).toBe(
      "The images of step 3, shard 1 did not come in time: loader thread 0 is starting up, loader thread 1 is starting up.",
    );
  });

  it("that it was closed", async () => {
    const { pool } = start();
    await pool.close();
    expect(coded("LS_LOADER_DIED", () => pool.take(0, 0)).message).toContain("closed");
  });
});
