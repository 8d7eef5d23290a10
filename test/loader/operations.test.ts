import { describe, expect, it, test } from "vitest";
import type { Augmentation } from "../../shared/config/schema.ts";
import { Augmenter } from "../../worker/loader/augment.ts";
import { OPERATIONS, type Operation, RandomOperations } from "../../worker/loader/operations.ts";
import {
  adjust,
  autocontrast,
  equalize,
  grey,
  posterize,
  sharpen,
  solarize,
  warp,
} from "../../worker/loader/pixels.ts";

const of = (run: (from: Uint8Array, into: Uint8Array) => void, values: readonly number[]) => {
  const into = new Uint8Array(values.length);
  run(Uint8Array.from(values), into);
  return [...into];
};

/** Values by hand. */
describe("operations on values", () => {
  it("stretch each channel to the whole range; a channel of one value stays", () => {
    // Two channels: 10, 20, 30 and 7, 7, 7.
    expect(of((from, into) => autocontrast(from, 2, into), [10, 7, 20, 7, 30, 7])).toEqual([0, 7, 128, 7, 255, 7]);
  });

  it("spread values by their ranks", () => {
    // Two of the least one; of the other three 1, 2 and 3 are at or below 50, 60 and 200.
    expect(of((from, into) => equalize(from, 1, into), [9, 9, 50, 60, 200])).toEqual([0, 0, 85, 170, 255]);
    expect(of((from, into) => equalize(from, 1, into), [9, 9, 9])).toEqual([9, 9, 9]);
  });

  it("invert what is bright, drop low bits", () => {
    expect(of((from, into) => solarize(from, 128, into), [0, 127, 128, 255])).toEqual([0, 127, 127, 0]);
    expect(of((from, into) => solarize(from, 256, into), [0, 255])).toEqual([0, 255]);
    expect(of((from, into) => posterize(from, 4, into), [0, 15, 16, 255])).toEqual([0, 0, 16, 240]);
  });

  it("move away from a base or towards it, clipped", () => {
    const half = (from: Uint8Array, into: Uint8Array) => adjust(from, [100, 100, 100], 0.5, into);
    expect(of(half, [0, 100, 201])).toEqual([50, 100, 151]);
    expect(of((from, into) => adjust(from, [100, 100, 100], 3, into), [0, 110, 201])).toEqual([0, 130, 255]);
    // ITU-R BT.601: 0.299, 0.587, 0.114.
    expect([...grey(Uint8Array.of(255, 0, 0, 0, 255, 0), 3)]).toEqual([
      ...[76.245, 76.245, 76.245].map((value) => expect.closeTo(value, 9)),
      ...[149.685, 149.685, 149.685].map((value) => expect.closeTo(value, 9)),
    ]);
    expect([...grey(Uint8Array.of(10, 30), 2)]).toEqual([20, 20]);
  });

  it("smooth the inside by (1 1 1, 1 5 1, 1 1 1) / 13 and leave the outermost pixels", () => {
    const shape = { channels: 1, height: 3, width: 3 };
    const image = [13, 13, 13, 13, 130, 13, 13, 13, 13];
    // (8 x 13 + 5 x 130) / 13 = 58
    expect(of((from, into) => sharpen(from, shape, 0, into), image)).toEqual(image.map((v, i) => (i === 4 ? 58 : v)));
    expect(of((from, into) => sharpen(from, shape, 1, into), image)).toEqual(image);
    expect(of((from, into) => sharpen(from, shape, 1.5, into), image)[4]).toBe(166);
  });
});

const SHAPE = { channels: 2, height: 4, width: 4 };
const IMAGE = Array.from({ length: 32 }, (_, i) => i * 7);
const at = (row: number, column: number, c: number) => IMAGE[(row * 4 + column) * 2 + c]!;
const warped = (affine: Parameters<typeof warp>[2], border: "zero" | "reflect" = "zero") =>
  of((from, into) => warp(from, SHAPE, affine, { border, outside: [200, 100] }, into), IMAGE);
const made = (value: (row: number, column: number, c: number) => number) =>
  Array.from({ length: 32 }, (_, i) => value(i >> 3, (i >> 1) & 3, i & 1));

describe("warping", () => {
  it("by nothing changes nothing, by a quarter turn it is a permutation", () => {
    expect(warped([1, 0, 0, 0, 1, 0])).toEqual(IMAGE);
    expect(warped([0, -1, 0, 1, 0, 0])).toEqual(made((row, column, c) => at(column, 3 - row, c)));
  });

  it("by whole pixels moves, and fills or mirrors what comes in", () => {
    const inside = (column: number) => column + 2 < 4;
    const fill = (c: number) => [200, 100][c]!;
    expect(warped([1, 0, 2, 0, 1, 0])).toEqual(
      made((row, column, c) => (inside(column) ? at(row, column + 2, c) : fill(c))),
    );
    // Columns 2, 3, then back over 2 and 1.
    expect(warped([1, 0, 2, 0, 1, 0], "reflect")).toEqual(made((row, column, c) => at(row, [2, 3, 2, 1][column]!, c)));
  });

  it("by half a pixel takes means", () => {
    const mean = (row: number, column: number, c: number) =>
      Math.round((at(row, column, c) + at(row + 1, column, c)) / 2);
    const found = warped([1, 0, 0, 0, 1, 0.5]);
    expect(found.slice(0, 24)).toEqual(Array.from({ length: 24 }, (_, i) => mean(i >> 3, (i >> 1) & 3, i & 1)));
  });
});

const SIDE = 12;
const PICTURE = { channels: 3, height: SIDE, width: SIDE };
const AUGMENTATION: Augmentation = {
  ...{ cropPadding: 0, border: "reflect", resizedCrop: null, flip: 0, colour: null, cutout: 0 },
  ...{ mean: [0.5, 0.4, 0.3], deviation: [0.2, 0.2, 0.2] },
};
const photo = Uint8Array.from({ length: SIDE * SIDE * 3 }, (_, i) => (i * 37 + ((i * i) >> 3)) % 251);
const operations = (count = 1, strength = 1, seed = 1) =>
  new RandomOperations({ count, strength }, AUGMENTATION, PICTURE, seed);
const applied = (name: Operation, strength: number) => {
  const into = new Uint8Array(photo.length);
  operations().run(name, strength, photo, into);
  return into;
};

describe("operations", () => {
  it("at full strength: 30 degrees, shear 0.3, shift by 0.3 of the side, factors of 0.1 and 1.9, four bits, everything inverted", () => {
    const reflected = (i: number) => (i < 0 ? -i : i > SIDE - 1 ? 2 * (SIDE - 1) - i : i);
    const pixel = (row: number, column: number, c: number) =>
      photo[(reflected(row) * SIDE + reflected(column)) * 3 + c]!;
    /** Bilinear interpolation in the words of its definition: a mean over the four neighbours by their distance. */
    const sample = (y: number, x: number, c: number) => {
      let sum = 0;
      for (const row of [Math.floor(y), Math.floor(y) + 1])
        for (const column of [Math.floor(x), Math.floor(x) + 1])
          sum += (1 - Math.abs(y - row)) * (1 - Math.abs(x - column)) * pixel(row, column, c);
      return sum;
    };
    const centre = (SIDE - 1) / 2;
    const places: readonly (readonly [Operation, (x: number, y: number) => readonly [number, number]])[] = [
      ["rotate", (x, y) => [Math.cos(Math.PI / 6) * x - y / 2, x / 2 + Math.cos(Math.PI / 6) * y]],
      ["shearX", (x, y) => [x + 0.3 * y, y]],
      ["shearY", (x, y) => [x, 0.3 * x + y]],
      ["shiftX", (x, y) => [x + 0.3 * SIDE, y]],
      ["shiftY", (x, y) => [x, y + 0.3 * SIDE]],
    ];
    for (const [name, place] of places) {
      applied(name, 1).forEach((value, i) => {
        const [row, column, c] = [Math.floor(i / 3 / SIDE), Math.floor(i / 3) % SIDE, i % 3];
        const [x, y] = place(column - centre, row - centre);
        expect(Math.abs(value - sample(y + centre, x + centre, c)), `${name} ${i}`).toBeLessThanOrEqual(0.5 + 1e-6);
      });
    }
    expect(applied("solarize", -1)).toEqual(photo.map((value) => 255 - value));
    expect(applied("posterize", 1)).toEqual(photo.map((value) => value & 240));
    expect(applied("brightness", -1)).toEqual(photo.map((value) => Math.round(value * (1 - 0.9))));
    const mean = (values: Uint8Array) => values.reduce((sum, value) => sum + value, 0) / values.length;
    const variance = (values: Uint8Array) =>
      values.reduce((sum, value) => sum + (value - mean(values)) ** 2, 0) / values.length;
    expect(Math.sqrt(variance(applied("contrast", -1)) / variance(photo))).toBeCloseTo(0.1, 2);
  });

  it.each(OPERATIONS.filter((name) => !["autocontrast", "equalize"].includes(name)))(
    "%s of no strength changes nothing",
    (name) => {
      expect(applied(name, 0)).toEqual(photo);
    },
  );

  it("are drawn by seed, epoch and sample id, all of them, and leave the image that was given as it is", () => {
    const once = (seed: number, epoch: number, id: number) =>
      [...operations(2, 1, seed).apply(photo, epoch, id)].join();
    const before = photo.slice();
    expect(once(1, 2, 3)).toBe(once(1, 2, 3));
    const others = [once(2, 2, 3), once(1, 3, 3), once(1, 2, 4)];
    expect(new Set([once(1, 2, 3), ...others]).size).toBeGreaterThan(2);
    expect(photo).toEqual(before);
    const fixed = new Map(
      (["identity", "autocontrast", "equalize"] as const).map((name) => [applied(name, 0).join(), name]),
    );
    const seen = new Map<string, number>();
    for (let id = 0; id < 1400; id++) {
      const name = fixed.get(operations(1, 1).apply(photo, 0, id).join());
      if (name !== undefined) seen.set(name, (seen.get(name) ?? 0) + 1);
    }
    // Each of 14 has 100 of 1,400 chances; those of no strength to speak of look like identity too.
    for (const name of ["autocontrast", "equalize"]) expect(Math.abs(seen.get(name)! - 100), name).toBeLessThan(40);
  });
});

test("an augmenter prepares the image that the operations make of the stored one", () => {
  const settings = { count: 2, strength: 0.6 };
  const [into, expected] = [new Float32Array(photo.length), new Float32Array(photo.length)];
  new Augmenter({ ...AUGMENTATION, operations: settings }, PICTURE, 9).train(photo, 4, 17, SIDE, into);
  const operated = new RandomOperations(settings, AUGMENTATION, PICTURE, 9).apply(photo, 4, 17);
  new Augmenter(AUGMENTATION, PICTURE, 9).train(operated, 4, 17, SIDE, expected);
  expect(into).toEqual(expected);
  new Augmenter({ ...AUGMENTATION, operations: settings }, PICTURE, 9).plain(photo, SIDE, into);
  new Augmenter(AUGMENTATION, PICTURE, 9).plain(photo, SIDE, expected);
  expect(into).toEqual(expected);
});
