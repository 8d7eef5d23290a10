import { createHash } from "node:crypto";
import {
  copyFileSync,
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type { Tensor2D } from "@tensorflow/tfjs-core";
import sharp from "sharp";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { writeSynthetic } from "../../deploy/data/synthetic.ts";
import type { Config } from "../../shared/config/schema.ts";
import { openDataset } from "../../shared/data/dataset.ts";
import { type Layout, layoutOf } from "../../shared/model/layout.ts";
import { encodeHeader } from "../../shared/model/safetensors.ts";
import { exportModel } from "../../worker/compute/export.ts";
import { initialWeights, tensorsOf } from "../../worker/compute/model-tensors.ts";
import { buildModel } from "../../worker/compute/models/index.ts";
import { findCheckpoint } from "../../worker/evaluation/checkpoint.ts";
import { predictTasks, runPool } from "../../worker/evaluation/predict-pool.ts";
import { decodePredictions } from "../../worker/evaluation/predictions.ts";
import { tensorflow } from "../compute/support.ts";
import { lockstep, processesOf, type Scratch, scratch, until } from "../up/support.ts";
import { madeConfig } from "./made-run.ts";

/** 50 test images of 32 x 32 in batches of 16, the last one of 2. */
const SIDE = 32;
const BATCH = 16;

let place: Scratch;
const at = (...path: string[]) => join(place.path, ...path);
const predictionsOf = (report: string) => decodePredictions(readFileSync(at(report, "predictions.safetensors")));
const bytesOf = (report: string) => readFileSync(at(report, "predictions.safetensors"));

async function evaluate(...args: string[]) {
  const run = lockstep(["evaluate", "--examine", "3", ...args]);
  const { code } = await run.ended;
  return { code, out: run.out(), err: run.err() };
}

/** A run as a finished cluster leaves it, with weights that no training has touched. */
async function writeRun(run: string, seed: number): Promise<void> {
  const tf = tensorflow();
  const { recipe } = madeConfig;
  const config: Config = {
    ...madeConfig,
    runId: run,
    recipe: {
      ...recipe,
      model: { name: "alexnet", sourceSha256: null, options: { widths: [8, 12, 16] }, statisticsMomentum: 0.9 },
      data: { ...recipe.data, height: SIDE, width: SIDE },
      resolutions: [{ fromEpoch: 0, side: SIDE }],
      ema: null,
    },
    place: { ...madeConfig.place, dataDirectory: at("data"), evaluation: { batch: BATCH, examined: 4 } },
  };
  const model = await buildModel(tf, config.recipe.model, [SIDE, SIDE, 3], 10, null);
  const tensors = tensorsOf(model);
  const layout: Layout = layoutOf(
    tensors.map(({ spec }) => spec),
    1 << 20,
  );
  const vector = new Float32Array(layout.stateFloats);
  initialWeights(tensors, layout, seed, vector);
  mkdirSync(at(run, "checkpoints"), { recursive: true });
  writeFileSync(at(run, "config.json"), JSON.stringify(config));
  const { mean, deviation } = recipe.augmentation;
  const facts = { model: "alexnet", classNames: names(), inputShape: [SIDE, SIDE, 3] as const, mean, deviation };
  await exportModel(model, layout, vector, at(run, "model"), { ...facts, metadata: {} });
  const header = encodeHeader([{ name: "weights", dtype: "F32", shape: [vector.length] }], {});
  const file = Buffer.concat([header, Buffer.from(vector.buffer)]);
  writeFileSync(at(run, "checkpoints", "step-480.safetensors"), file);
  const sha256 = createHash("sha256").update(file).digest("hex");
  const tip = { step: 480, lineage: "", stateHash: "" };
  const manifest = [{ file: "step-480.safetensors", bytes: file.length, sha256, tip }];
  writeFileSync(at(run, "checkpoints", "manifest.json"), JSON.stringify(manifest));
}

const names = () => {
  const dataset = openDataset(at("data"));
  dataset.close();
  return dataset.classNames;
};

beforeAll(async () => {
  place = scratch();
  await writeSynthetic(at("data"), { train: 20, test: 50, classes: 10, side: SIDE });
  await writeRun("one", 1);
  await writeRun("two", 2);
});
afterAll(() => place[Symbol.dispose]());

describe("lockstep evaluate", () => {
  it("gives the same bits for a run, its checkpoint and its model, in any number of processes", async () => {
    const given = [at("one"), at("one", "checkpoints", "step-480.safetensors"), at("one", "model")];
    for (const [i, path] of given.entries()) {
      const { code, err } = await evaluate(path, "--workers", String(i + 1), "--report", at(`same-${i}`));
      expect(code, err).toBe(0);
    }
    expect(Buffer.compare(bytesOf("same-1"), bytesOf("same-0"))).toBe(0);
    expect(Buffer.compare(bytesOf("same-2"), bytesOf("same-0"))).toBe(0);
    const found = [0, 1, 2].map((i) => JSON.parse(readFileSync(at(`same-${i}`, "report.json"), "utf8")));
    expect(found[0].faithfulness).toMatchObject({ images: 3, randomisation: { images: 3 } });
    expect(found[1].faithfulness).toEqual(found[0].faithfulness);
    expect(found[2].faithfulness).toEqual(found[0].faithfulness);
    expect(processesOf(place.path)).toEqual([]);
  });

  it("draws the pictures that are asked for, as PNG files", async () => {
    const { code, err } = await evaluate(at("one"), "--report", at("drawn"), "--pictures", "3,7", "--examine", "0");
    expect(code, err).toBe(0);
    const names = readdirSync(at("drawn", "pictures"));
    expect(names.map((name) => name.slice(0, 5))).toEqual(["00003", "00007"]);
    expect(await sharp(at("drawn", "pictures", names[0]!)).metadata()).toMatchObject({
      format: "png",
      width: 4 * SIDE,
    });
    const none = await evaluate(at("one"), "--report", at("drawn"), "--pictures", "50", "--examine", "0");
    expect(none.err).toContain("There is no test image 50; the last is 49. Give other images");
  });

  it("predicts what plain TensorFlow.js predicts, and each logit is the mean of its map", async () => {
    const tf = tensorflow();
    const model = await tf.loadLayersModel(pathToFileURL(at("one", "model", "model.json")).href);
    const { mean, deviation } = madeConfig.recipe.augmentation;
    const { samples, classes, logits, labels, maps } = predictionsOf("same-0");
    const raw = readFileSync(at("data", "test_X.bin"));
    // Channel by channel, each column by column, in the file.
    const images = tf.tidy(() => {
      const stored = tf.tensor4d(new Float32Array(raw), [samples, 3, SIDE, SIDE]).transpose([0, 3, 2, 1]);
      return stored
        .div(255)
        .sub(tf.tensor1d([...mean]))
        .div(tf.tensor1d([...deviation]));
    });
    const both = [images, images.reverse(2)].map((x) => model.predict(x) as Tensor2D);
    const expected = both[0]!.add(both[1]!).div(2).dataSync();
    expect(expected.length).toBe(logits.length);
    const worst = logits.reduce((most, value, i) => Math.max(most, Math.abs(value - expected[i]!)), 0);
    expect(worst).toBeLessThan(1e-4);
    const area = maps!.height * maps!.width;
    for (let i = 0; i < samples; i++) {
      const row = logits.subarray(i * classes, (i + 1) * classes);
      for (const [which, logit] of [Math.max(...row), row[labels[i]!]!].entries()) {
        const map = maps!.values.subarray((i * 2 + which) * area, (i * 2 + which + 1) * area);
        expect(map.reduce((sum, value) => sum + value, 0) / area).toBeCloseTo(logit, 4);
      }
    }
  });

  it("sets several side by side, the second of one name under a name of its own", async () => {
    const { code, out, err } = await evaluate(at("one"), at("two"), at("one"), "--report", at("many"), "--json");
    expect(code, err).toBe(0);
    const lines = out
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(lines.map(({ type }) => type)).toEqual(["evaluated", "evaluated", "evaluated", "compared"]);
    const { models, pairs } = JSON.parse(readFileSync(at("many", "comparison.json"), "utf8"));
    expect(models.map(({ name, report }: Record<string, string>) => [name, report])).toEqual(
      ["one", "two", "one-2"].map((name) => [name, `${name}/report.html`]),
    );
    const top1 = models.map(({ top1 }: { top1: number }) => top1);
    expect(pairs[0].difference).toBeCloseTo(top1[0] - top1[1], 12);
    expect(pairs[1]).toMatchObject({ first: "one", second: "one-2", onlyFirst: 0, onlySecond: 0, pValue: 1 });
    // A model looks where it looks; other weights look elsewhere.
    expect(pairs[1].maps).toMatchObject({ images: 50, same: { mean: 1, low: 1, high: 1 } });
    expect(pairs[0].maps.same.mean).toBeLessThan(0.9);
    expect(pairs[1].maps.other.mean).toBeLessThan(0.9);
    const page = readFileSync(at("many", "comparison.html"), "utf8");
    expect(page).toContain('href="two/report.html"');
    expect(page).toContain("Where they look");
    expect(page.match(/<figure class="error card">/g)!.length).toBeGreaterThan(3);
  });

  it.each([
    ["nothing there", () => [at("none")], "LS_EVALUATION_CHECKPOINT", "does not exist"],
    [
      "a directory of something else",
      () => [at("data")],
      "LS_EVALUATION_CHECKPOINT",
      "neither config.json nor model.json",
    ],
    ["a file of something else", () => [at("data", "test_y.bin")], "LS_EVALUATION_CHECKPOINT", "step-<n>.safetensors"],
    ["no number of workers", () => [at("one"), "--workers", "0"], "LS_USAGE", "--workers"],
    ["data that are not there", () => [at("one"), "--data", at("none")], "LS_DATA_MISSING", "is missing"],
  ])("says in one line what is wrong: %s", async (_, args, code, words) => {
    const run = await evaluate(...args(), "--report", at("wrong"));
    expect(run.err).toContain(`[${code}]`);
    expect(run.err).toContain(words);
    expect(run.err.trim().split("\n").length).toBe(1);
    expect(run.code).toBe(code === "LS_DATA_MISSING" ? 3 : 2);
  });

  it.each([
    ["cut off", (file: string) => truncateSync(file, 9000), "LS_SAFETENSORS"],
    [
      "of another model",
      (file: string) => copyFileSync(at("one", "model", "model.safetensors"), file),
      "LS_SAFETENSORS",
    ],
  ])("refuses a checkpoint that is %s", async (_, harm, code) => {
    cpSync(at("one"), at("broken"), { recursive: true });
    harm(at("broken", "checkpoints", "step-480.safetensors"));
    const run = await evaluate(at("broken"), "--workers", "1", "--report", at("wrong"));
    rmSync(at("broken"), { recursive: true });
    expect(run.err).toContain(`[${code}]`);
    expect(run.code).not.toBe(0);
  });
});

describe("the processes that predict", () => {
  const program = (name: string) => new URL(`programs/${name}`, import.meta.url).pathname;
  const options = (name: string, signal: AbortSignal) => ({
    checkpoint: findCheckpoint(at("one")),
    dataDirectory: at("data"),
    size: BATCH,
    processes: 2,
    devices: ["cpu"],
    program: program(name),
    signal,
  });

  it("that die are told of, with their last words", async () => {
    const work = runPool(options("dies.mjs", new AbortController().signal), predictTasks(50, BATCH));
    await expect(work).rejects.toMatchObject({ code: "LS_EVALUATION_PROCESS" });
    await expect(work).rejects.toThrow(/SIGABRT: corrupted double-linked list/);
    expect(processesOf(program("dies.mjs"))).toEqual([]);
  });

  it("end with an interruption, whatever they are doing", async () => {
    const controller = new AbortController();
    const work = runPool(options("silent.mjs", controller.signal), predictTasks(50, BATCH));
    work.catch(() => {});
    await until(() => processesOf(program("silent.mjs")).length === 2);
    controller.abort(new Error("interrupted"));
    await expect(work).rejects.toThrow("interrupted");
    expect(processesOf(program("silent.mjs"))).toEqual([]);
  });
});
