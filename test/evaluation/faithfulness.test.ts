import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { DOMAIN, Stream } from "../../shared/plan/random.ts";
import { cascade, dependsOnWeights } from "../../worker/evaluation/faithfulness/cascade.ts";
import { impute, type Raster } from "../../worker/evaluation/faithfulness/impute.ts";
import { areaUnder, blur, Prober, roadScore } from "../../worker/evaluation/faithfulness/probes.ts";
import { byCentre, byChance, byMap, rankCorrelation } from "../../worker/evaluation/faithfulness/rankings.ts";
import { pointed, readRegions, regionMask } from "../../worker/evaluation/faithfulness/regions.ts";
import { faithfulnessOf } from "../../worker/evaluation/faithfulness/result.ts";
import recorded from "./recorded/faithfulness.json" with { type: "json" };

/** A generator without noise: what is imputed can be compared. */
const silent = { normal: () => 0 } as unknown as Stream;
const noise = () => new Stream(1, DOMAIN.evaluation, 4, 9);

const [HEIGHT, WIDTH] = [9, 11];
/** The same formula stands in recorded/faithfulness.py. */
const picture: Raster = {
  height: HEIGHT,
  width: WIDTH,
  channels: 2,
  values: Float32Array.from({ length: HEIGHT * WIDTH * 2 }, (_, i) => {
    const [c, x, y] = [i % 2, Math.floor(i / 2) % WIDTH, Math.floor(i / 2 / WIDTH)];
    return ((y * 31 + x * 17 + c * 7) % 23) / 10 - 1;
  }),
};
const removed = Uint8Array.from({ length: HEIGHT * WIDTH }, (_, i) =>
  (Math.floor(i / WIDTH) * 7 + (i % WIDTH) * 5) % 11 < 7 ? 1 : 0,
);

describe("noisy linear imputation", () => {
  it("solves the system that SciPy solves", () => {
    const filled = impute(picture, removed, silent);
    filled.forEach((value, i) => {
      expect(value).toBeCloseTo(recorded.filled[i]!, 3);
    });
  });

  it("leaves what is known, and adds noise of a hundredth to the rest", () => {
    const filled = impute(picture, removed, noise());
    const clean = impute(picture, removed, silent);
    let square = 0;
    filled.forEach((value, i) => {
      const gone = removed[Math.floor(i / 2)] === 1;
      if (!gone) expect(value).toBe(picture.values[i]);
      square += (value - clean[i]!) ** 2;
    });
    expect(Math.sqrt(square / (2 * removed.reduce((sum, one) => sum + one, 0)))).toBeCloseTo(0.01, 2);
  });

  it("keeps every value between those that are known, and knows what to do without any", () => {
    fc.assert(
      fc.property(fc.array(fc.boolean(), { minLength: HEIGHT * WIDTH, maxLength: HEIGHT * WIDTH }), (mask) => {
        const filled = impute(picture, Uint8Array.from(mask, Number), silent);
        expect(Math.min(...filled)).toBeGreaterThanOrEqual(-1 - 1e-3);
        expect(Math.max(...filled)).toBeLessThanOrEqual(1.2 + 1e-3);
      }),
      { numRuns: 50 },
    );
    const empty = impute(picture, new Uint8Array(HEIGHT * WIDTH).fill(1), silent);
    expect(new Set(empty.filter((_, i) => i % 2 === 0)).size).toBe(1);
  });
});

it("blurs as SciPy does", () => {
  blur(picture, 0.9).forEach((value, i) => {
    expect(value).toBeCloseTo(recorded.blurred[i]!, 5);
  });
});

describe("rank correlation", () => {
  it("is SciPy's, ties included", () => {
    const a = Float32Array.from({ length: 40 }, (_, i) => ((i * 37) % 41) % 13);
    const b = Float32Array.from({ length: 40 }, (_, i) => ((i * 29) % 43) % 7);
    expect(rankCorrelation(a, b)).toBeCloseTo(recorded.spearman, 12);
    expect(rankCorrelation(a, a)).toBeCloseTo(1, 12);
    expect(
      rankCorrelation(
        a,
        a.map((v) => -v),
      ),
    ).toBeCloseTo(-1, 12);
  });

  it("of maps that say nothing is none", () => {
    expect(rankCorrelation(new Float32Array(4), Float32Array.of(1, 2, 3, 4))).toBe(0);
    expect(rankCorrelation(Float32Array.of(1, Number.NaN, 3), Float32Array.of(1, 2, 3))).toBe(0);
  });
});

describe("removal of pixels", () => {
  /** A model that sees a bright square of a fifth of the picture, off the middle, and nothing else. */
  const [height, width] = [20, 20];
  const inSquare = (i: number) => {
    const [y, x] = [Math.floor(i / width), i % width];
    return y >= 2 && y < 10 && x >= 9 && x < 19;
  };
  const bright: Raster = {
    height,
    width,
    channels: 1,
    values: Float32Array.from({ length: 400 }, (_, i) => (inSquare(i) ? 1 : -0.25)),
  };
  const sees = (pictures: readonly Float32Array[]) =>
    pictures.map((values) => {
      let sum = 0;
      values.forEach((value, i) => {
        if (inSquare(i)) sum += Math.min(1, Math.max(0, value));
      });
      return sum / 80;
    });
  const map = {
    height,
    width,
    values: Float32Array.from({ length: 400 }, (_, i) => (inSquare(i) ? 1 : 0)),
  };
  const prober = new Prober(bright, sees);
  const truth = prober.probe(byMap(map, height, width), noise());
  const chance = prober.probe(byChance(400, new Stream(3, DOMAIN.evaluation, 5)), noise());
  const centre = prober.probe(byCentre(height, width), noise());

  it("gives the hand-computed curve of a perfect map", () => {
    const expected = [1, 0.5, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    truth.deletion.forEach((value, i) => {
      expect(value).toBeCloseTo(expected[i]!, 6);
    });
    expect(areaUnder(truth.deletion)).toBeCloseTo((0.5 + 0.5) / 10, 6);
    expect(areaUnder([1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1])).toBe(1);
  });

  it("ranks a true map above chance and the middle, by each measure", () => {
    for (const other of [chance, centre]) {
      expect(roadScore(truth)).toBeGreaterThan(roadScore(other) + 0.2);
      expect(areaUnder(truth.insertion)).toBeGreaterThan(areaUnder(other.insertion));
      expect(areaUnder(truth.deletion)).toBeLessThan(areaUnder(other.deletion));
    }
    expect(Math.abs(roadScore(chance))).toBeLessThan(0.15);
  });

  it("is put together the same whatever came first, and says when the map is ahead", () => {
    const examined = [4, 2, 9].map((image) => ({
      image,
      explained: 0,
      rankings: { map: truth, random: chance, centre },
    }));
    const found = faithfulnessOf(examined, null);
    expect(found).toEqual(faithfulnessOf(examined.toReversed(), null));
    expect(found.roadAhead.random.low).toBeGreaterThan(0);
    expect(found.rankings.map.road.mean).toBeCloseTo(roadScore(truth), 12);
  });
});

describe("the cascade of shuffled weights", () => {
  /** Maps of a model of two layers: the second mixes what the first finds. */
  const model = (mapsOf: (first: Float32Array, second: Float32Array) => Float32Array[]) => {
    const draw = (seed: number) => {
      const stream = new Stream(seed, DOMAIN.evaluation);
      return Float32Array.from({ length: 64 }, () => stream.normal());
    };
    const weights: Record<string, Float32Array> = { second: draw(1), first: draw(2) };
    return {
      layers: ["second", "first"],
      shuffle: (layer: string, shuffle: (values: Float32Array) => void) => shuffle(weights[layer]!),
      maps: () => mapsOf(weights.first!, weights.second!),
    };
  };

  it("is passed by maps that follow the weights", () => {
    const steps = cascade(
      model((first, second) => [
        second.map((value, i) => value + first[i]!),
        first.map((value, i) => value * second[i]!),
      ]),
      7,
    );
    expect(steps.map(({ layer }) => layer)).toEqual(["second", "first"]);
    expect(dependsOnWeights(steps)).toBe(true);
  });

  it("is failed by an edge detector", () => {
    const edges = picture.values.map((value, i) => Math.abs(value - (picture.values[i + 2] ?? value)));
    const steps = cascade(
      model(() => [edges]),
      7,
    );
    expect(steps.map(({ correlations }) => correlations[0])).toEqual([expect.closeTo(1, 12), expect.closeTo(1, 12)]);
    expect(dependsOnWeights(steps)).toBe(false);
  });
});

describe("regions that people marked", () => {
  const place = mkdtempSync(join(tmpdir(), "lockstep-regions-"));
  afterAll(() => rmSync(place, { recursive: true, force: true }));
  const header = "Split,Image,CategoryGT,Category,CenterX,CenterY,RadiusX,RadiusY,Angle,WorkTime";
  const file = (name: string, lines: readonly string[]) => {
    writeFileSync(join(place, name), [header, ...lines].join("\n"));
    return join(place, name);
  };
  const names = ["cat", "dog"];

  it("are read for test images", () => {
    const path = file("good.csv", [
      "train,00000.png,dog,dog,1,2,3,4,0,9",
      "test,00001.png,dog,cat,10,20,3,4,0.5,9",
      "test,00001.png,dog,dog,11,21,3,4,0,9",
      "",
    ]);
    expect(readRegions(path, names, [0, 1])).toEqual(
      new Map([
        [
          1,
          [
            { x: 10, y: 20, radiusX: 3, radiusY: 4, angle: 0.5 },
            { x: 11, y: 21, radiusX: 3, radiusY: 4, angle: 0 },
          ],
        ],
      ]),
    );
  });

  it.each([
    ["another class than the data set's", "test,00000.png,dog,dog,1,1,1,1,0,9", /line 2: image 0 is called dog/],
    ["an image that does not exist", "test,00007.png,dog,dog,1,1,1,1,0,9", /there is no test image 7/],
    ["a radius that is none", "test,00000.png,cat,cat,1,1,wide,1,0,9", /RadiusX/],
  ])("are refused for %s", (_, line, message) => {
    const path = file("bad.csv", [line]);
    expect(() => readRegions(path, names, [0, 1])).toThrow(message);
    expect(() => readRegions(path, names, [0, 1])).toThrow(expect.objectContaining({ code: "LS_REGIONS" }));
  });

  it("are refused where there is no file", () => {
    expect(() => readRegions(join(place, "none.csv"), names, [0, 1])).toThrow(/none\.csv: there is no such file/);
  });

  it("are ellipses, turned as said, where at least half of the people agree", () => {
    const flat = { x: 10, y: 10, radiusX: 6, radiusY: 2, angle: 0 };
    const count = (mask: Uint8Array) => mask.reduce((sum, one) => sum + one, 0);
    const mask = regionMask([flat], 21, 21);
    expect([mask[10 * 21 + 16], mask[10 * 21 + 17], mask[12 * 21 + 10], mask[13 * 21 + 10]]).toEqual([1, 0, 1, 0]);
    const turned = regionMask([{ ...flat, angle: Math.PI / 2 }], 21, 21);
    expect([turned[16 * 21 + 10], turned[10 * 21 + 16]]).toEqual([1, 0]);
    const both = regionMask([flat, flat, { ...flat, angle: Math.PI / 2 }], 21, 21);
    expect(both).toEqual(mask);
    expect(Math.abs(count(mask) - Math.PI * 12)).toBeLessThan(5);
  });

  it("are pointed at or missed", () => {
    const region = Uint8Array.of(1, 1, 0, 0);
    const grid = (values: readonly number[]) => ({ height: 2, width: 2, values: Float32Array.from(values) });
    expect(pointed(grid([3, 1, 2, -5]), region, 2, 2)).toEqual({ hit: true, energy: 4 / 6, area: 0.5 });
    expect(pointed(grid([1, 1, 2, -5]), region, 2, 2)).toEqual({ hit: false, energy: 0.5, area: 0.5 });
    expect(pointed(grid([-1, -1, -2, -5]), region, 2, 2)).toBeNull();
    expect(pointed(grid([1, 1, 2, 5]), new Uint8Array(4), 2, 2)).toBeNull();
  });
});
