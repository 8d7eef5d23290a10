import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { recipeHash } from "../../shared/config/canonical.ts";
import { readConfigFile } from "../../shared/config/files.ts";
import { shardEfficiency } from "../../shared/config/resolve.ts";
import { configSchema } from "../../shared/config/schema.ts";
import { microBatchSizes } from "../../shared/plan/plan.ts";
import { resolved } from "./support.ts";

const folder = mkdtempSync(join(tmpdir(), "lockstep-config-"));
afterAll(() => rmSync(folder, { recursive: true }));
const fileOf = (name: string, value: unknown) => {
  const path = join(folder, name);
  writeFileSync(path, typeof value === "string" ? value : JSON.stringify(value));
  return path;
};
const code = (expected: string, message = "") =>
  expect.objectContaining({ code: expected, exitCode: 2, message: expect.stringContaining(message) });

describe("the resolved config", () => {
  it("of STL-10 without options is the quick recipe on every core", () => {
    const { config, notes } = resolved();
    expect(notes).toEqual([]);
    expect(configSchema.parse(JSON.parse(JSON.stringify(config)))).toEqual(config);
    const { recipe, place } = config;
    expect(recipe).toMatchObject({ recipe: "quick", shards: 8, batch: 128, stepsPerEpoch: 39, steps: 6 * 39 });
    expect(recipe.model).toMatchObject({ name: "alexnet", sourceSha256: null });
    expect(recipe.resolutions).toEqual([{ fromEpoch: 0, side: 96 }]);
    expect(recipe.augmentation.mean).toEqual([0.4467, 0.4398, 0.4066]);
    expect(Math.max(...recipe.learningRates)).toBe(Math.fround(0.12));
    expect([recipe.precision, recipe.execution]).toEqual(["float32", "graph"]);
    expect(place).toMatchObject({ workers: 2, minWorkers: 1, listen: "127.0.0.1", evaluation: { batch: 100 } });
    expect(place.timing).toMatchObject({ heartbeatTimeout: 1500, redialFirst: 100, redialMax: 1000 });
  });

  it("says only where it is so that nothing is exchanged: other recipes keep their hash, and nothing is evaluated", () => {
    const { config, notes } = resolved({ exchange: "none" });
    expect(config.recipe.exchange).toBe("none");
    expect(config.place.evaluation).toBeNull();
    expect(notes.join()).toContain("--exchange none");
    expect(Object.keys(resolved({ exchange: "all" }).config.recipe)).not.toContain("exchange");
    const file = { path: "config.json", options: {}, recipe: config.recipe, place: {} };
    expect(Object.keys(resolved({}, { run: { file } }).config.recipe)).not.toContain("exchange");
  });

  it("resolves precision and execution by what the machine supports, once", () => {
    const computing = (options: Parameters<typeof resolved>[0], machine = {}) => {
      const { precision, execution } = resolved(options, { machine }).config.recipe;
      return [precision, execution];
    };
    expect(computing({ precision: "auto" })).toEqual(["bf16", "graph"]);
    expect(computing({ precision: "auto" }, { precisions: ["float32"] })).toEqual(["float32", "graph"]);
    expect(computing({ precision: "auto", execution: "eager" })).toEqual(["float32", "eager"]);
    expect(computing({ precision: "bf16", execution: "auto" })).toEqual(["bf16", "graph"]);
  });

  it("follows options, then the file, then the recipe", () => {
    const file = readConfigFile(fileOf("options.json", { epochs: 3, lr: "0.05", seed: 9, workers: 4 }));
    const { recipe, place } = resolved({ seed: 7, steps: 5 }, { run: { file } }).config;
    expect([recipe.seed, recipe.steps, place.workers, recipe.labelSmoothing]).toEqual([7, 5, 4, 0.1]);
    expect(Math.max(...recipe.learningRates)).toBe(Math.fround(0.05));
  });

  it("takes a recipe from a file, on top of the default one", () => {
    const path = fileOf("mine.json", { batch: 64, peakRate: 0.2, ema: { decay: 0.99 } });
    const { recipe } = resolved({ recipe: path }).config;
    expect(recipe).toMatchObject({ recipe: "mine", batch: 64, ema: { decay: 0.99 }, shards: 8, stepsPerEpoch: 78 });
    expect(Math.max(...recipe.learningRates)).toBe(Math.fround(0.2));
  });

  it("repeats a run from its config.json, rates included, and lets options change it", () => {
    const first = resolved({ seed: 3, batch: 64, model: "resnet" }).config;
    // A table of another engine must be kept as it is.
    const recipe = {
      ...first.recipe,
      learningRates: first.recipe.learningRates.map((rate) => Math.fround(rate * 1.0000001)),
    };
    const file = readConfigFile(fileOf("config.json", { ...first, recipe }));
    const again = resolved({}, { run: { file, runId: "other" } }).config;
    expect(recipeHash(again.recipe)).toBe(recipeHash(recipe));
    expect(again).toMatchObject({ runId: "other", place: { outDirectory: "/runs/quick-1" } });
    const longer = resolved({ epochs: 12 }, { run: { file } }).config.recipe;
    expect(longer).toMatchObject({ steps: 12 * 78, batch: 64, seed: 3 });
    expect(longer.learningRates.indexOf(Math.max(...longer.learningRates))).toBe(Math.round(0.1 * 12 * 78));
    expect(() => resolved({}, { run: { file }, dataset: { sha256: "cd".repeat(32) } })).toThrow(code("LS_CONFIG_DATA"));
  });

  it("scales the rate with the batch unless a rate is given", () => {
    const { config, notes } = resolved({ batch: 256 });
    expect(Math.max(...config.recipe.learningRates)).toBe(Math.fround(0.24));
    expect(notes.join()).toContain("0.24");
    expect(Math.max(...resolved({ batch: 256, lr: 0.1 }).config.recipe.learningRates)).toBe(Math.fround(0.1));
  });

  it("derives batch and shards for data sets of any size", () => {
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 40_000 }), (trainImages) => {
        const { recipe } = resolved({}, { dataset: { trainImages } }).config;
        expect(recipe.batch).toBeLessThanOrEqual(trainImages);
        const sizes = microBatchSizes(trainImages, recipe.shards, recipe.stepsPerEpoch);
        expect(sizes[0]).toBeGreaterThanOrEqual(2);
        expect(recipe.learningRates.length).toBe(recipe.steps);
        if (trainImages >= 2560) expect(recipe.batch).toBe(128);
      }),
    );
    expect(resolved({}, { dataset: { trainImages: 9 } }).config.recipe).toMatchObject({ shards: 4, batch: 8 });
  });

  it("uses as many workers as cores, shards and memory allow, and names standbys", () => {
    const workers = (machine: object, options = {}) => resolved(options, { machine }).config.place.workers;
    expect(workers({ cores: 64 })).toBe(8);
    expect(workers({ cores: 64 }, { shards: 16 })).toBe(16);
    expect(workers({ cores: 64, memoryBytes: 3.5 * 2 ** 30 })).toBe(3);
    expect(workers({ cores: 1, memoryBytes: 1 })).toBe(1);
    const { config, notes } = resolved({ workers: 9 });
    expect(config.place.workers).toBe(9);
    expect(notes).toEqual(["1 of 9 workers is a standby: 8 shards."]);
    expect([3, 5, 8].map((n) => shardEfficiency(8, n).toFixed(2))).toEqual(["0.89", "0.80", "1.00"]);
  });

  it("skips evaluation when told so, or without test images", () => {
    expect(resolved({ eval: false }).config.place.evaluation).toBeNull();
    expect(resolved({}, { dataset: { testImages: 0 } }).config.place.evaluation).toBeNull();
    expect(resolved({}, { dataset: { testImages: 30 } }).config.place.evaluation).toEqual({ batch: 30, examined: 40 });
  });

  it("binds a user's own model by the hash of its source", () => {
    const path = fileOf("model.js", "a");
    const { recipe, place } = resolved({ model: path }).config;
    // SHA-256 of "a" (FIPS 180 test value).
    expect(recipe.model.sourceSha256).toBe("ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb");
    expect([recipe.model.name, place.modelFile]).toEqual(["file", path]);
  });

  it("refuses wrong values with a sentence and what to do", () => {
    expect(() => resolved({ recipe: "slow" })).toThrow(code("LS_CONFIG_RECIPE", 'no recipe "slow"'));
    expect(() => resolved({ recipe: "constructor" })).toThrow(code("LS_CONFIG_RECIPE"));
    expect(() => resolved({ model: "vgg" })).toThrow(code("LS_MODEL_UNKNOWN", 'no model "vgg"'));
    expect(() => resolved({ model: "./none.js" })).toThrow(code("LS_MODEL_FILE", "ENOENT"));
    expect(() => resolved({ batch: 15 })).toThrow(code("LS_USAGE", "--batch 15 is less than two samples"));
    expect(() => resolved({ batch: 5001 })).toThrow(code("LS_USAGE", "more than the 5000"));
    expect(() => resolved({ shards: 2501 })).toThrow(code("LS_USAGE", "--shards 2501 is too many"));
    expect(() => resolved({ minWorkers: 3 })).toThrow(code("LS_USAGE", "--min-workers 3"));
    const old = { machine: { precisions: ["float32"] as const } };
    expect(() => resolved({ precision: "bf16" }, old)).toThrow(code("LS_CONFIG_SUPPORT", "--precision bf16"));
    expect(() => resolved({ precision: "bf16", execution: "eager" })).toThrow(code("LS_USAGE", "--precision bf16"));
    expect(() => resolved({}, { dataset: { trainImages: 1 } })).toThrow(code("LS_CONFIG_DATA"));
    const slow = readConfigFile(fileOf("slow.json", { place: { timing: { heartbeatTimeout: 500 } } }));
    expect(() => resolved({}, { run: { file: slow } })).toThrow(code("LS_CONFIG_INVALID", "heartbeatTimeout (500 ms)"));
  });

  it("refuses files that say what nobody understands", () => {
    const reading = (value: unknown) => () => readConfigFile(fileOf("wrong.json", value));
    expect(reading({ epohcs: 3 })).toThrow(code("LS_CONFIG_FILE", '"epohcs" is not an option'));
    expect(reading({ epochs: -3 })).toThrow(code("LS_CONFIG_FILE", "--epochs must be a number above 0"));
    expect(reading("{")).toThrow(code("LS_CONFIG_FILE", "not JSON"));
    expect(reading([])).toThrow(code("LS_CONFIG_FILE", "not an object"));
    expect(reading({ recipe: { bach: 3 } })).toThrow(code("LS_CONFIG_FILE", "bach"));
    expect(() => readConfigFile(join(folder, "missing.json"))).toThrow(code("LS_CONFIG_FILE", "ENOENT"));
  });
});
