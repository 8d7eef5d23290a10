import sharp from "sharp";
import { describe, expect, it } from "vitest";
import { type Grid, mapOf, normaliseMap, placeOf, upsample } from "../../worker/evaluation/maps.ts";
import { colourMap, mapWebp, overlayPng, pictureWebp } from "../../worker/evaluation/overlay.ts";

const grid = (height: number, width: number, values: readonly number[]): Grid => ({
  height,
  width,
  values: Float32Array.from(values),
});

describe("normalised maps", () => {
  it("keep zero at zero, cut evidence against the class off, and reach one at the peak", () => {
    const map = normaliseMap(grid(2, 2, [-3, 0, 2, 4]));
    expect(map).toMatchObject({ kind: "evidence", peak: 4 });
    expect([...map.values]).toEqual([0, 0, 0.5, 1]);
  });

  it("are comparable on a given scale", () => {
    expect([...normaliseMap(grid(1, 2, [1, 2]), 4).values]).toEqual([0.25, 0.5]);
    expect([...normaliseMap(grid(1, 2, [1, 8]), 4).values]).toEqual([0.25, 1]);
  });

  it.each([
    ["constant", [3, 3, 3, 3], "uniform", [1, 1, 1, 1]],
    ["constant up to rounding", [1, 1 + 2 ** -23, 1, 1], "uniform", [1, 1, 1, 1]],
    ["zero", [0, 0, 0, 0], "none", [0, 0, 0, 0]],
    ["all-negative", [-1, -2, -3, -4], "none", [0, 0, 0, 0]],
    ["NaN", [1, Number.NaN, 2, 3], "invalid", [0, 0, 0, 0]],
    ["infinite", [1, Number.POSITIVE_INFINITY, 2, 3], "invalid", [0, 0, 0, 0]],
    ["tiny", [0, 1e-44, 0, 0], "evidence", [0, 1, 0, 0]],
  ] as const)("say what a %s map says", (_, values, kind, expected) => {
    const map = normaliseMap(grid(2, 2, values));
    expect(map.kind).toBe(kind);
    expect([...map.values].map((value) => Math.round(value * 1e5) / 1e5)).toEqual(expected);
  });

  it("depend on nothing but the map, not on its neighbours in a batch", () => {
    const maps = grid(2, 2, [...[1, 2, 3, 4], ...[5, 6, 7, 8], ...[9, 9, 9, 9], ...[Number.NaN, 0, 0, 0]]);
    expect(normaliseMap(mapOf(maps, 0, 1))).toEqual(normaliseMap(grid(2, 2, [5, 6, 7, 8])));
    expect(normaliseMap(mapOf(maps, 1, 0)).kind).toBe("uniform");
  });
});

describe("enlarged maps", () => {
  it("are those of OpenCV", () => {
    // cv2.resize(np.float32([[0, 1, 4], [9, -2, 3]]), (6, 4), interpolation=cv2.INTER_LINEAR), OpenCV 5.0.0
    const { values } = upsample(grid(2, 3, [0, 1, 4, 9, -2, 3]), 4, 6);
    expect([...values]).toEqual([
      ...[0, 0.25, 0.75, 1.75, 3.25, 4],
      ...[2.25, 1.75, 0.75, 1.125, 2.875, 3.75],
      ...[6.75, 4.75, 0.75, -0.125, 2.125, 3.25],
      ...[9, 6.25, 0.75, -0.75, 1.75, 3],
    ]);
    // The same with (7, 5), third row.
    const odd = upsample(grid(2, 3, [0, 1, 4, 9, -2, 3]), 5, 7).values.subarray(14, 21);
    const row = [4.5, 3.785714, 1.642857, -0.5, 1.214286, 2.928571, 3.5];
    expect([...odd]).toEqual(row.map((value) => expect.closeTo(value, 5)));
  });

  it("keep the extent, and stay between the least and the largest value", () => {
    const map = grid(3, 3, [0, 1, 0, 1, 5, 1, 0, 1, 0]);
    expect(upsample(map, 3, 3)).toEqual(map);
    const large = upsample(map, 40, 31).values;
    expect(Math.max(...large)).toBeLessThanOrEqual(5);
    expect(Math.min(...large)).toBeGreaterThanOrEqual(0);
  });

  it("are told in words", () => {
    expect(placeOf(grid(3, 3, [0, 0, 9, 0, 0, 0, 0, 0, 0]))).toBe("top right");
    expect(placeOf(grid(3, 3, [0, 0, 0, 0, 9, 0, 0, 0, 0]))).toBe("centre");
    expect(placeOf(grid(1, 1, [1]))).toBe("centre");
  });
});

describe("pictures", () => {
  const gradient = (channels: number) => ({
    height: 8,
    width: 12,
    channels,
    data: Uint8Array.from({ length: 8 * 12 * channels }, (_, i) => (i * 255) / (8 * 12 * channels)),
  });

  it("no evidence leaves the picture as it is, pixel by pixel", async () => {
    const png = await overlayPng(gradient(3), grid(2, 2, [0, 0, 0, 0]));
    const { data, info } = await sharp(png).removeAlpha().raw().toBuffer({ resolveWithObject: true });
    expect(info).toMatchObject({ width: 12, height: 8, channels: 3 });
    expect(new Uint8Array(data)).toEqual(gradient(3).data);
  });

  it("strong evidence covers more than weak, red over blue", () => {
    const rgba = colourMap(grid(1, 2, [0.1, 1]), 1, 2);
    expect(rgba[7]!).toBeGreaterThan(rgba[3]!);
    expect(rgba[4]!).toBeGreaterThan(rgba[6]!);
    expect(rgba[2]!).toBeGreaterThan(rgba[0]!);
  });

  it.each([1, 3])("with %d channels, enlarged, as PNG and as WebP", async (channels) => {
    const map = grid(2, 2, [0, 1, 0.5, 0.2]);
    const meta = await sharp(await overlayPng(gradient(channels), map, 3)).metadata();
    expect(meta).toMatchObject({ format: "png", width: 36, height: 24 });
    expect(await sharp(await pictureWebp(gradient(channels))).metadata()).toMatchObject({ format: "webp", width: 12 });
    expect(await sharp(await mapWebp(map, 20, 30)).metadata()).toMatchObject({ width: 30, height: 20, hasAlpha: true });
  });
});
