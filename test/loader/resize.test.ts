import fc from "fast-check";
import sharp from "sharp";
import { describe, expect, it } from "vitest";
import { type Border, Resampler, reflect, reversed, tapsOf } from "../../worker/loader/resize.ts";

/** The definition in float64, one output pixel at a time: a sum over a whole mirrored or cut off plane. */
function reference(
  image: readonly number[],
  [height, width]: readonly [number, number],
  [top, left, h, w]: readonly [number, number, number, number],
  size: number,
  border: Border,
): number[] {
  const weightsOf = (n: number, start: number, extent: number, output: number) => {
    const scale = extent / size;
    const radius = Math.max(1, scale);
    const centre = start + (output + 0.5) * scale - 0.5;
    if (border === "zero" && (centre < -0.5 || centre >= n - 0.5)) return new Map<number, number>();
    const weights = new Map<number, number>();
    let sum = 0;
    for (let i = -50; i < 60; i++) {
      const weight = 1 - Math.abs(i - centre) / radius;
      if (weight <= 0) continue;
      let at = i;
      if (border === "reflect") while (at < 0 || at >= n) at = n === 1 ? 0 : at < 0 ? -at : 2 * (n - 1) - at;
      if (at < 0 || at >= n) continue;
      weights.set(at, (weights.get(at) ?? 0) + weight);
      sum += weight;
    }
    return new Map([...weights].map(([i, weight]) => [i, weight / sum]));
  };
  const out: number[] = [];
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      let value = 0;
      for (const [row, u] of weightsOf(height, top, h, y)) {
        for (const [column, v] of weightsOf(width, left, w, x)) value += u * v * image[row * width + column]!;
      }
      out.push(value);
    }
  }
  return out;
}

describe("resampling", () => {
  it("composes the taps that a person computes", () => {
    // Half size: radius 2, centres at 0.5 and 2.5; weights 1/4 3/4 3/4 1/4 of pixels -1 0 1 2.
    expect(taps(tapsOf(4, 0, 4, 2, "edge"), 4)).toEqual([
      [3 / 7, 3 / 7, 1 / 7, 0],
      [0, 1 / 7, 3 / 7, 3 / 7],
    ]);
    expect(taps(tapsOf(4, 0, 4, 2, "reflect"), 4)).toEqual([
      [3 / 8, 4 / 8, 1 / 8, 0],
      [0, 1 / 8, 4 / 8, 3 / 8],
    ]);
    // Double size: centres at -0.25, 0.25, 0.75, 1.25.
    expect(taps(tapsOf(2, 0, 2, 4, "edge"), 2)).toEqual([
      [1, 0],
      [0.75, 0.25],
      [0.25, 0.75],
      [0, 1],
    ]);
    // A window that begins two pixels before the image: two outputs lie outside of a zero border.
    expect(taps(tapsOf(3, -2, 3, 3, "zero"), 3)).toEqual([
      [0, 0, 0],
      [0, 0, 0],
      [1, 0, 0],
    ]);
    expect(taps(tapsOf(3, -2, 3, 3, "reflect"), 3)).toEqual([
      [0, 0, 1],
      [0, 1, 0],
      [1, 0, 0],
    ]);
    expect(taps(reversed(tapsOf(2, 0, 2, 4, "edge")), 2)).toEqual([
      [0, 1],
      [0.25, 0.75],
      [0.75, 0.25],
      [1, 0],
    ]);
  });

  it("mirrors indices at the outermost pixels without repeating them", () => {
    expect([-4, -3, -2, -1, 0, 1, 2, 3, 4, 5].map((i) => reflect(i, 3))).toEqual([0, 1, 2, 1, 0, 1, 2, 1, 0, 1]);
    expect([-2, 0, 7].map((i) => reflect(i, 1))).toEqual([0, 0, 0]);
  });

  it("agrees with a float64 reference for any window, size, border and number of channels", () => {
    const border = fc.constantFrom<Border>("zero", "reflect", "edge");
    const extent = fc.double({ min: 0.5, max: 14, noNaN: true });
    const start = fc.double({ min: -3, max: 3, noNaN: true });
    const side = fc.integer({ min: 2, max: 9 });
    const channels = fc.constantFrom(1, 3);
    fc.assert(
      fc.property(side, side, side, start, start, extent, extent, border, channels, (...setting) => {
        const [height, width, size, , , , , border, channels] = setting;
        const [top, left, h, w] =
          border === "edge"
            ? [0, 0, height, width]
            : (setting.slice(3, 7) as number[] as [number, number, number, number]);
        const plane = (c: number) =>
          Array.from({ length: height * width }, (_, i) => ((i * 37 + c * 11) % 101) / 50 - 1);
        const image = new Float32Array(height * width * channels);
        for (let c = 0; c < channels; c++) for (const [i, value] of plane(c).entries()) image[i * channels + c] = value;
        const into = new Float32Array(size * size * channels);
        const [across, down] = [tapsOf(width, left, w, size, border), tapsOf(height, top, h, size, border)];
        new Resampler().run(image, width, channels, across, down, into);
        for (let c = 0; c < channels; c++) {
          const expected = reference(plane(c), [height, width], [top, left, h, w], size, border);
          for (const [i, value] of expected.entries()) expect(into[i * channels + c]).toBeCloseTo(value, 5);
        }
      }),
      { numRuns: 200 },
    );
  });

  it("shrinks like libvips with its linear kernel", async () => {
    const side = 96;
    const size = 64;
    const raw = Uint8Array.from({ length: side * side * 3 }, (_, i) => {
      const [pixel, c] = [Math.floor(i / 3), i % 3];
      const [x, y] = [pixel % side, Math.floor(pixel / side)];
      return (128 + 60 * Math.sin(x / (3 + c)) + 60 * Math.cos(y / 5 + x / 9)) | 0;
    });
    const input = { raw: { width: side, height: side, channels: 3 as const } };
    const theirs = await sharp(raw, input).resize(size, size, { kernel: "linear" }).raw().toBuffer();
    const ours = new Float32Array(size * size * 3);
    const taps = tapsOf(side, 0, side, size, "edge");
    new Resampler().run(Float32Array.from(raw), side, 3, taps, taps, ours);
    let worst = 0;
    for (let y = 2; y < size - 2; y++) {
      for (let i = (y * size + 2) * 3; i < (y * size + size - 2) * 3; i++) {
        worst = Math.max(worst, Math.abs(theirs[i]! - ours[i]!));
      }
    }
    expect(worst).toBeLessThan(2); // both round to whole levels, theirs after each direction
  });
});

/** The weights of each output as a row over all source pixels. */
function taps({ indices, weights, count }: ReturnType<typeof tapsOf>, source: number): number[][] {
  return Array.from({ length: indices.length / count }, (_, output) => {
    const row = new Array<number>(source).fill(0);
    for (let k = output * count; k < (output + 1) * count; k++) row[indices[k]!]! += weights[k]!;
    return row;
  });
}
