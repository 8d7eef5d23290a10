import { readFileSync } from "node:fs";
import { expect, describe as group, test } from "vitest";
import { recipeHash } from "../../shared/config/canonical.ts";
import { MODELS } from "../../shared/config/models.ts";
import { recipeDocument } from "../../shared/config/recipes/document.ts";
import { RECIPES } from "../../shared/config/recipes/index.ts";
import { settingsSchema } from "../../shared/config/settings.ts";
import { resolved } from "./support.ts";

const cases = Object.entries(RECIPES).flatMap(([name, { expected }]) =>
  Object.keys(expected).map((model) => [name, model] as const),
);

test.each(cases)("%s with %s is a config for STL-10, in bfloat16 where the recipe leaves it open", (recipe, model) => {
  const { config, notes } = resolved({ recipe, model });
  expect(notes).toEqual([]);
  expect(config.recipe).toMatchObject({ recipe, model: { name: model } });
  expect(config.recipe.precision).toBe(recipe === "quick" ? "float32" : "bf16");
  expect(config.recipe.resolutions.at(-1)!.side).toBe(96);
});

test("every recipe is complete settings under its own name, and expects something of its own model", () => {
  for (const [name, { settings, models = {}, expected }] of Object.entries(RECIPES)) {
    expect(settingsSchema.parse(settings)).toEqual(settings);
    expect(settings.recipe).toBe(name);
    expect(Object.keys(expected)).toEqual([settings.model.name, ...Object.keys(models)]);
    for (const [model, other] of Object.entries(models)) expect(other.model?.name).toBe(model);
    for (const model of Object.keys(expected)) expect(MODELS).toContain(model);
  }
});

/** Published hashes of weights stand on these: see the README. */
test("quick is the recipe that it was when its results were published", () => {
  const hashes = [{}, { model: "resnet", epochs: 3, seed: 2 }].map((options) =>
    recipeHash(resolved(options).config.recipe),
  );
  expect(hashes).toEqual([
    "81f7cd4197ba2d0bf9c587edd9847d5ca25806a49ad9e53674371379863512df",
    "76a0d64837db95b47f6d7034d758c8e64002c100838f2d052af3fd810b161c98",
  ]);
});

test("the table in shared/config/README.md is what the recipes say", () => {
  expect(readFileSync(new URL("../../shared/config/README.md", import.meta.url), "utf8")).toContain(recipeDocument());
});

group("the change to larger images", () => {
  const sides = (options: object, dataset = {}) =>
    resolved({ recipe: "fast", ...options }, { dataset }).config.recipe.resolutions;

  test("is where the recipe has it, and moves with the length of the run", () => {
    expect(sides({})).toEqual([
      { fromEpoch: 0, side: 64 },
      { fromEpoch: 48, side: 96 },
    ]);
    expect(sides({ epochs: 6 })).toEqual([
      { fromEpoch: 0, side: 64 },
      { fromEpoch: 4, side: 96 },
    ]);
    expect(sides({ steps: 3 * 78 }).map(({ fromEpoch }) => fromEpoch)).toEqual([0, 2]);
    expect(sides({ steps: 20 })).toEqual([{ fromEpoch: 0, side: 96 }]);
  });

  test("follows the size of other images, in steps of 8 pixels", () => {
    const small = (side: number) => sides({}, { height: side, width: side }).map((resolution) => resolution.side);
    expect(small(32)).toEqual([24, 32]);
    expect(small(128)).toEqual([88, 128]);
    expect(small(6)).toEqual([6, 6]);
  });
});

test("a run is repeated from its config.json, its model's own schedule included", () => {
  const { config } = resolved({ recipe: "reference", model: "resnet" });
  const file = { path: "config.json", options: {}, recipe: config.recipe, place: {} };
  expect(recipeHash(resolved({}, { run: { file } }).config.recipe)).toBe(recipeHash(config.recipe));
  const half = resolved({ epochs: 70 }, { run: { file } }).config.recipe;
  expect(half.resolutions[1]).toEqual({ fromEpoch: 45, side: 96 });
});
