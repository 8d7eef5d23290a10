import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { writeSynthetic } from "../../deploy/data/synthetic.ts";
import type { Config } from "../../shared/config/schema.ts";
import { trainingSha256 } from "../../shared/data/dataset.ts";
import { imagesIn } from "../data/fetched-images.ts";
import { readJson, SMALL_SET, summaryOf, train } from "./runs.ts";
import { lockstep, processesOf, type Scratch, scratch, until } from "./support.ts";

let place: Scratch;
const at = (name: string) => join(place.path, name);
beforeAll(async () => {
  place = scratch();
  await writeSynthetic(at("data"), SMALL_SET);
  await writeSynthetic(at("other"), { ...SMALL_SET, seed: 6 });
});
afterAll(() => place[Symbol.dispose]());

const IMAGE = 3 * SMALL_SET.side ** 2;

describe("a worker without the data set", () => {
  it("fetches the images of its shards and of its evaluation, and the run ends with the same bits", async () => {
    const alone = train(at("data"), at("alone"), 1, ["--steps", "8"]);
    expect((await alone.ended).code, alone.err()).toBe(0);

    const out = at("together");
    mkdirSync(out);
    const config = readJson(at("alone"), "config.json") as unknown as Config;
    // Five batches: each worker is given two at once, so that the far one evaluates too.
    const place_ = {
      ...config.place,
      outDirectory: out,
      workers: 2,
      minWorkers: 2,
      evaluation: { batch: 4, examined: 0 },
    };
    writeFileSync(join(out, "config.json"), JSON.stringify({ ...config, runId: "together", place: place_ }));
    const run = lockstep(["coordinator", out]);
    const endpoints = join(out, "endpoints.json");
    await until(() => existsSync(endpoints));
    const refused = lockstep(["worker", "--join", endpoints, "--data", at("other")]);
    expect((await refused.ended).code).toBe(3);
    const [found, wanted] = await Promise.all([trainingSha256(at("other")), trainingSha256(at("data"))]);
    expect(refused.err()).toContain(`holds the training data ${found}; this run trains on ${wanted}`);
    expect(refused.err()).toContain("[LS_DATA_DIFFERS]");

    const env = { LOCKSTEP_CACHE: at("cache") };
    const near = lockstep(["worker", "--join", endpoints, "--name", "near"]);
    const worker = lockstep(["worker", "--join", endpoints, "--name", "far", "--data", "fetch"], env);
    expect((await worker.ended).code, worker.err()).toBe(0);
    expect((await near.ended).code, near.err()).toBe(0);
    expect((await run.ended).code, run.err()).toBe(0);
    const { stateSha256, lineage } = summaryOf(at("alone"));
    expect(summaryOf(out)).toMatchObject({ stateSha256, lineage, workers: 2, samplesPerEpochExact: true });

    const folder = at(`cache/data/${readdirSync(at("cache/data"))[0]}`);
    const here = imagesIn(join(folder, "train_X.bin"), IMAGE);
    // Half of the shards, or a few more where the other worker was slow; never all of them.
    expect(here.length).toBeGreaterThan(0);
    expect(here.length).toBeLessThan(SMALL_SET.train);
    const [original, copy] = [at("data"), folder].map((where) => readFileSync(join(where, "train_X.bin")));
    const image = (bytes: Buffer, id: number) => bytes.subarray(id * IMAGE, (id + 1) * IMAGE);
    for (const id of here) expect(image(copy!, id).equals(image(original!, id)), `image ${id}`).toBe(true);
    expect(copy!.length).toBe(original!.length);
    expect(imagesIn(join(folder, "test_X.bin"), IMAGE).length).toBeGreaterThan(0);
    expect(processesOf(out)).toEqual([]);
  }, 300_000);
});
