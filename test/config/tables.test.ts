import { describe, expect, it } from "vitest";
import { canonicalJson, recipeHash } from "../../shared/config/canonical.ts";
import { configJsonSchema } from "../../shared/config/json-schema.ts";
import { learningRates, scheduleOf } from "../../shared/config/learning-rates.ts";
import { timingSchema } from "../../shared/config/schema.ts";
import { brokenRelations, DEFAULT_TIMING, TIMING_RELATIONS } from "../../shared/config/timing.ts";
import { resolved } from "./support.ts";

describe("learning rates", () => {
  it("rise evenly, peak and fall along half a cosine, in float32", () => {
    expect(learningRates(8, { peakRate: 0.5, warmup: 0.25 }).slice(0, 3)).toEqual(
      [0.5 / 3, 1 / 3, 0.5].map(Math.fround),
    );
    const table = learningRates(1001, { peakRate: 0.12, warmup: 0.1 });
    table.forEach((rate, step) => {
      const expected = step < 100 ? (0.12 * (step + 1)) / 101 : 0.06 * (1 + Math.cos((Math.PI * (step - 100)) / 901));
      expect(Math.abs(rate - expected)).toBeLessThan(1e-8);
      expect(rate).toBe(Math.fround(rate));
    });
    expect(table.at(-1)).toBeGreaterThan(0);
  });

  it("have a peak in runs of any length", () => {
    for (const steps of [1, 2, 3]) {
      for (const warmup of [0, 0.5, 1]) expect(Math.max(...learningRates(steps, { peakRate: 1, warmup }))).toBe(1);
    }
  });

  it("tell the schedule that made them", () => {
    const { peakRate, warmup } = scheduleOf(learningRates(200, { peakRate: 0.25, warmup: 0.1 }));
    expect([peakRate, warmup]).toEqual([0.25, 0.1]);
  });
});

describe("the recipe's hash", () => {
  it("is the SHA-256 of JSON with sorted keys", () => {
    expect(canonicalJson({ b: [1, { d: null, c: "x" }], a: 0.1 })).toBe('{"a":0.1,"b":[1,{"c":"x","d":null}]}');
    // As `printf '{}' | sha256sum` prints it.
    expect(recipeHash({} as never)).toBe("44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a");
  });

  it("changes with what touches bits and not with the place", () => {
    const hash = (options: object) => recipeHash(resolved(options).config.recipe);
    expect(hash({ workers: 1 })).toBe(hash({ workers: 5, eval: false }));
    expect(new Set([{}, { seed: 2 }, { shards: 4 }, { batch: 64 }, { lr: 0.1 }].map(hash)).size).toBe(5);
  });
});

describe("time-outs", () => {
  it("hold all relations by default, and each relation refuses what breaks it", () => {
    expect(brokenRelations(DEFAULT_TIMING)).toEqual([]);
    expect(timingSchema.parse(DEFAULT_TIMING)).toEqual(DEFAULT_TIMING);
    for (const { larger, times, smaller, why } of TIMING_RELATIONS) {
      const broken = { ...DEFAULT_TIMING, [larger]: times * DEFAULT_TIMING[smaller] - 1 };
      const message = `${larger} (${broken[larger]} ms) must be at least`;
      const messages = timingSchema.safeParse(broken).error?.issues.map((issue) => issue.message);
      expect(messages).toEqual(expect.arrayContaining([expect.stringContaining(message)]));
      expect(messages).toEqual(expect.arrayContaining([expect.stringContaining(why)]));
    }
  });
});

describe("the JSON schema of config.json", () => {
  it("names all parts", () => {
    expect(configJsonSchema()).toMatchObject({
      type: "object",
      required: ["runId", "recipe", "place"],
      properties: { recipe: { properties: { learningRates: { type: "array" } } } },
    });
  });
});
