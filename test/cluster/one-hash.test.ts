import { copyFileSync, cpSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { writeSynthetic } from "../../deploy/data/synthetic.ts";
import { RECIPES } from "../../shared/config/recipes/index.ts";
import type { Recipe } from "../../shared/config/schema.ts";
import { multipliesBfloat16 } from "../../shared/process/instruction-set.ts";
import { bitsOf, linesOf, readJson, SMALL_SET, summaryOf, train as up } from "../up/runs.ts";
import { type Scratch, scratch } from "../up/support.ts";

/**
 * The promise, with real processes: one hash for any number of workers. A small generated set, two whole epochs with
 * augmentation, dropout and batch norm.
 */
let place: Scratch;
let data: string;
let runs = 0;

beforeAll(async () => {
  place = scratch();
  data = join(place.path, "data");
  await writeSynthetic(data, SMALL_SET);
});
afterAll(() => place[Symbol.dispose]());

interface Ended {
  readonly out: string;
  readonly summary: Record<string, unknown>;
}

async function train(
  workers: number,
  more: readonly string[],
  env: Record<string, string> = {},
  from = data,
): Promise<Ended> {
  const out = join(place.path, `run-${++runs}`);
  const run = up(from, out, workers, ["--epochs", "2", "--batch", "40", ...more], env);
  const { code } = await run.ended;
  expect(code, run.err()).toBe(0);
  return { out, summary: summaryOf(out) };
}

const bits = ({ summary }: Ended) => bitsOf(summary);

interface StepLine {
  readonly step: number;
  readonly shards: readonly { readonly shard: number; readonly by: string; readonly samples: number }[];
}

describe("one hash for any number of workers", () => {
  test.each(["alexnet", "resnet"])(
    "%s, 8 shards: 1, 2, 3 and 5 workers",
    async (model) => {
      const alone = await train(1, ["--model", model, "--shards", "8"]);
      expect(alone.summary).toMatchObject({ samplesPerEpochExact: true, reproducible: true, epochs: 2 });
      for (const workers of [2, 3, 5]) {
        const together = await train(workers, ["--model", model, "--shards", "8"]);
        expect(bits(together), `${workers} workers`).toEqual(bits(alone));
        // Each worker computed its own contiguous shards only, and every shard was computed once in each step.
        for (const { shards } of linesOf<StepLine>(together.out, "steps.ndjson")) {
          expect(shards.map(({ shard }) => shard)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
          const owners = shards.map(({ by }) => by);
          expect(new Set(owners).size).toBe(workers);
          const changes = owners.filter((by, i) => i > 0 && by !== owners[i - 1]).length;
          expect(changes).toBe(workers - 1);
        }
      }
    },
    400_000,
  );

  test("alexnet, 16 shards, operation by operation: 7 workers", async () => {
    const alone = await train(1, ["--model", "alexnet", "--shards", "16", "--execution", "eager"]);
    const together = await train(7, ["--model", "alexnet", "--shards", "16", "--execution", "eager"]);
    expect(together.summary.workers).toBe(7);
    expect(bits(together)).toEqual(bits(alone));
  }, 300_000);

  test.skipIf(!multipliesBfloat16())(
    "resnet in bfloat16, 8 shards: 1 and 2 workers",
    async () => {
      const alone = await train(1, ["--model", "resnet", "--precision", "auto"]);
      const together = await train(2, ["--model", "resnet", "--precision", "bf16"]);
      expect(bits(together)).toEqual(bits(alone));
      expect(alone.summary.reproducibleReason).toContain("bf16, graph execution");
    },
    300_000,
  );

  test("resnet11 with all of a recipe's augmentation, images that grow, a moving average: 1, 2 and 3 workers", async () => {
    const recipe = ["--recipe", "fast", "--shards", "4", "--precision", "float32"];
    const alone = await train(1, recipe);
    const { resolutions } = readJson(alone.out, "config.json").recipe as Recipe;
    expect(resolutions).toEqual([
      { fromEpoch: 0, side: 24 },
      { fromEpoch: 1, side: 32 },
    ]);
    for (const workers of [2, 3]) expect(bits(await train(workers, recipe)), `${workers} workers`).toEqual(bits(alone));
  }, 300_000);

  test("mixed images and random operations, by a recipe of one's own: 1 and 3 workers", async () => {
    const { augmentation } = RECIPES.fast!.settings;
    const recipe = join(place.path, "mixed.json");
    const mixing = { probability: 1, cutmix: 0.5, alpha: 0.2 };
    const operations = { count: 2, strength: 0.5 };
    writeFileSync(recipe, JSON.stringify({ shards: 4, mixing, augmentation: { ...augmentation, operations } }));
    const alone = await train(1, ["--recipe", recipe]);
    expect(readJson(alone.out, "config.json").recipe).toMatchObject({ mixing, augmentation: { operations } });
    expect(bits(await train(3, ["--recipe", recipe]))).toEqual(bits(alone));
    writeFileSync(recipe, JSON.stringify({ shards: 4, augmentation: { ...augmentation, operations } }));
    expect(bits(await train(2, ["--recipe", recipe])).weightsSha256).not.toBe(alone.summary.weightsSha256);
  }, 300_000);

  test("one pixel of one image, and the seed, change it", async () => {
    const alone = await train(2, ["--model", "alexnet", "--shards", "8"]);
    const other = join(place.path, "other");
    cpSync(data, other, { recursive: true });
    for (const name of readdirSync(data)) copyFileSync(join(data, name), join(other, name));
    const images = readFileSync(join(other, "train_X.bin"));
    images[1000]! ^= 64;
    writeFileSync(join(other, "train_X.bin"), images);
    const changed = await train(2, ["--model", "alexnet", "--shards", "8"], {}, other);
    expect(changed.summary.weightsSha256).not.toBe(alone.summary.weightsSha256);
    expect(changed.summary.lineage).not.toBe(alone.summary.lineage);
    const seeded = await train(2, ["--model", "alexnet", "--shards", "8", "--seed", "8"]);
    expect(seeded.summary.weightsSha256).not.toBe(alone.summary.weightsSha256);
  }, 300_000);
});

describe("the account of samples", () => {
  test.each(["skip:11", "repeat:11"])(
    "a loader that is made to %s an id makes it not exact",
    async (fault) => {
      const run = await train(2, ["--model", "alexnet", "--shards", "8"], { LOCKSTEP_LOADER_FAULT: fault });
      expect(run.summary.samplesPerEpochExact).toBe(false);
    },
    120_000,
  );
});
