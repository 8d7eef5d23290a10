import { expect, test } from "vitest";
import { RECIPES } from "../../shared/config/recipes/index.ts";
import { settingsSchema } from "../../shared/config/settings.ts";
import type { Predictions } from "../../worker/evaluation/predictions.ts";
import { ablationTable } from "./ablation/table.ts";
import { variantsOf } from "./ablation/variants.ts";

test("every variant of every recipe is complete settings that differ from the recipe, the first aside", () => {
  for (const [name, { models = {} }] of Object.entries(RECIPES)) {
    for (const model of [undefined, ...Object.keys(models)]) {
      const { base, variants } = variantsOf(name, model);
      const all = variants.map(({ change }) => JSON.stringify(settingsSchema.parse({ ...base, ...change })));
      expect(all[0]).toBe(JSON.stringify(settingsSchema.parse(base)));
      expect(new Set(all).size).toBe(variants.length);
      expect(new Set(variants.map((variant) => variant.name)).size).toBe(variants.length);
    }
  }
  expect(variantsOf("quick", undefined).variants.map(({ name }) => name)).not.toContain("no cutout");
});

/** Two classes; right where the pattern has a 1. */
function made(pattern: string): Predictions {
  const labels = Int32Array.from(pattern, (_, i) => i % 2);
  const logits = Float32Array.from(
    [...pattern].flatMap((right, i) => ((right === "1") === (i % 2 === 0) ? [1, 0] : [0, 1])),
  );
  return { samples: labels.length, classes: 2, logits, plainLogits: null, labels, maps: null };
}

test("the table sets variants beside the recipe, image by image", () => {
  const rows = ablationTable([
    { name: "as it is", predictions: [made("11110000"), made("11111111")], seconds: 10 },
    { name: "worse", predictions: [made("11000000"), made("11111111")], seconds: 12.4 },
  ]).split("\n");
  // By hand: 12 and 10 of 16 are right; the second lacks two that the first has.
  expect(rows[2]).toMatch(/^\| as it is \| 75\.0 \(.*\) \| {2}\| 10 \|$/);
  expect(rows[3]).toMatch(/^\| worse \| 62\.5 \(.*\) \| -12\.5 \(-31\.3 to 0\.0\) \| 12 \|$/);
});
