import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { writeSynthetic } from "../../deploy/data/synthetic.ts";
import type { DiffResult } from "../../deploy/diff/diff.ts";
import { openDataset } from "../../shared/data/dataset.ts";
import { Plan } from "../../shared/plan/plan.ts";
import { readJson, SMALL_SET, summaryOf, train as up } from "../up/runs.ts";
import { lockstep, processesOf, type Scratch, scratch } from "../up/support.ts";

/** Real runs of 8 steps in 2 epochs on a small generated set, 4 shards. */
const SHARDS = 4;
const STEPS_PER_EPOCH = 4;
const SEED = 7;
const PIXELS = 3 * 32 * 32;

let place: Scratch;
const at = (...path: string[]) => join(place.path, ...path);

async function train(name: string, workers: number, env: Record<string, string> = {}, data = "data"): Promise<void> {
  const size = ["--model", "alexnet", "--epochs", "2", "--batch", "40", "--shards", String(SHARDS)];
  const { ended, err } = up(at(data), at(name), workers, [...size, "--seed", String(SEED)], env);
  expect((await ended).code, err()).toBe(0);
}

async function diff(...args: string[]): Promise<{ result: DiffResult; code: number | null; text: string }> {
  const run = lockstep(["diff", ...args, "--json"]);
  const { code } = await run.ended;
  const lines = run.out().trim().split("\n");
  expect(lines.length, run.err()).toBe(1);
  return { result: JSON.parse(lines[0]!) as DiffResult, code, text: run.err() };
}

beforeAll(async () => {
  place = scratch();
  await writeSynthetic(at("data"), SMALL_SET);
  await train("one", 1);
}, 120_000);
afterAll(() => place[Symbol.dispose]());

describe("lockstep diff", () => {
  it("says that runs of different numbers of workers are equal, and by which hashes", async () => {
    await train("three", 3);
    const { result, code, text } = await diff(at("one"), at("three"));
    expect(code).toBe(0);
    expect(result).toMatchObject({ equal: true, config: [], first: null, steps: { a: 8, b: 8, common: 8 } });
    const { weightsSha256, stateSha256, lineage } = summaryOf(at("one")) as Record<string, string>;
    for (const [name, hash] of Object.entries({ weights: weightsSha256!, state: stateSha256!, lineage: lineage! })) {
      expect(result.hashes[name as "weights"]).toEqual({ a: hash, b: hash });
      expect(text).toContain(`equal (${hash.slice(0, 16)})`);
    }
    expect(text).toContain("The runs are equal.");
  });

  it("names step, shard and image where one pixel of the data differs", async () => {
    cpSync(at("data"), at("other"), { recursive: true });
    const images = readFileSync(at("other", "train_X.bin"));
    const image = 6;
    images[image * PIXELS + 1234]! ^= 64;
    writeFileSync(at("other", "train_X.bin"), images);
    await train("pixel", 2, {}, "other");
    // The first step that feeds the image, by the plan.
    const { labels } = openDataset(at("data")).train;
    const plan = new Plan({ labels, seed: SEED, shards: SHARDS, stepsPerEpoch: STEPS_PER_EPOCH });
    const fed = Array.from({ length: STEPS_PER_EPOCH * SHARDS }, (_, i) => ({ step: i >> 2, shard: i & 3 }));
    const { step, shard } = fed.find((micro) => plan.microBatch(micro.step, micro.shard).includes(image))!;

    const { result, code, text } = await diff(at("one"), at("pixel"));
    expect(code).toBe(1);
    expect(result.config.map(({ path }) => path)).toEqual(["recipe.data.sha256"]);
    expect(result.data.equal).toBe(false);
    expect(result.fingerprint.equal).toBe(true);
    expect(result.first).toMatchObject({ step, shard, shards: [shard], kind: "gradient", epoch: 0 });
    expect(result.explanation).toMatchObject({
      images: [image],
      before: [],
      a: { asRecorded: true, departed: null, sameFingerprint: true },
      b: { asRecorded: true, departed: null, sameFingerprint: true },
    });
    expect(result.verdict).toMatchObject({ cause: "images", run: null, layer: "conv1/kernel" });
    expect(text).toContain(`image ${image}`);
  });

  it("names step, shard, run and, by replay, the layer and the bit where a gradient was damaged before its checksum", async () => {
    // The third kernel begins behind those of 4,800 and 92,160 values and two pairs of scales and shifts.
    const [row, column, input, output] = [1, 4, 151, 96];
    const float = 4800 + 2 * 64 + 92160 + 2 * 160 + ((row * 5 + column) * 160 + input) * 256 + output;
    const bit = 20;
    await train("flip", 2, { LOCKSTEP_GRADIENT_FAULT: `5:2:${float}:${bit}` });
    const { result, code, text } = await diff(at("one"), at("flip"));
    expect(code).toBe(1);
    expect(result.first).toMatchObject({ step: 5, shard: 2, shards: [2], kind: "gradient", epoch: 1 });
    const { a, b, layers } = result.explanation!;
    expect(a).toMatchObject({ asRecorded: true, departed: null, located: null });
    const stored = readJson(at("one", "checkpoints", "manifest.json")) as unknown as {
      tip: { step: number };
    }[];
    expect(a!.from).toBe(Math.max(0, ...stored.map(({ tip }) => tip.step).filter((step) => step <= 5)));
    expect(b).toMatchObject({ asRecorded: false, samplesAsRecorded: true, departed: null });
    expect(b!.located!.flip).toMatchObject({ tensor: "conv3/kernel", index: [row, column, input, output], bit });
    // Both replays give the sound gradient.
    expect(layers).toEqual([]);
    expect(result.verdict).toMatchObject({ cause: "damage", run: "b", layer: "conv3/kernel" });
    expect(text).toContain(`bit ${bit} of conv3/kernel[${row}, ${column}, ${input}, ${output}] was flipped`);
  });

  it("tells a run that did not feed its plan", async () => {
    await train("skip", 1, { LOCKSTEP_LOADER_FAULT: "skip:11" });
    const { result, code } = await diff(at("skip"), at("one"));
    expect(code).toBe(1);
    expect(result.first).toMatchObject({ kind: "samples" });
    expect(result.explanation!.a).toMatchObject({ samplesAsRecorded: false });
    expect(result.verdict).toMatchObject({ cause: "samples", run: "a" });
  });

  it("compares records alone where nothing is to be computed again, and leaves no process", async () => {
    const { result, code } = await diff(at("one"), at("flip"), "--no-replay");
    expect(code).toBe(1);
    expect(result).toMatchObject({ first: { step: 5, shard: 2 }, explanation: null, verdict: null });
    expect(processesOf(place.path)).toEqual([]);
  });

  it("goes on without a replay where a run's data set is gone, and says so", async () => {
    const { result, code, text } = await diff(at("one"), at("flip"), "--data", at("other"));
    expect(code).toBe(1);
    expect(result.first).toMatchObject({ step: 5, shard: 2 });
    expect(result.explanation!.failures.length).toBe(2);
    expect(text).toContain("does not hold its training data any more");
  });

  it("refuses what is no run", async () => {
    const run = lockstep(["diff", at("one"), at("data")]);
    expect((await run.ended).code).toBe(2);
    expect(run.err()).toContain("LS_RUN_CONFIG");
    expect(run.err()).not.toMatch(/^ {4}at /m);
  });
});
