import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Augmentation } from "../../shared/config/schema.ts";
import { Augmenter } from "../../worker/loader/augment.ts";

const SIDE = 8;
const SHAPE = { channels: 3, height: SIDE, width: SIDE };
/** Normalises v to v / 255, so that pixels stay recognisable. */
const NOTHING: Augmentation = {
  cropPadding: 0,
  border: "zero",
  resizedCrop: null,
  flip: 0,
  mean: [0, 0, 0],
  deviation: [1, 1, 1],
  colour: null,
  cutout: 0,
};
/** Every byte differs from every other: 192 of them, from 1 on. */
const IMAGE = Uint8Array.from({ length: SIDE * SIDE * 3 }, (_, i) => i + 1);

function train(settings: Partial<Augmentation>, { id = 0, epoch = 0, seed = 1, side = SIDE, image = IMAGE } = {}) {
  const into = new Float32Array(side * side * 3);
  new Augmenter({ ...NOTHING, ...settings }, SHAPE, seed).train(image, epoch, id, side, into);
  return into;
}

/** The byte at (y, x, c) of the stored image as it is after normalisation by 255. */
const pixel = (y: number, x: number, c: number) => Math.fround(IMAGE[(y * SIDE + x) * 3 + c]! / 255);
const positions = Array.from({ length: SIDE * SIDE * 3 }, (_, i) => [
  Math.floor(i / 3 / SIDE),
  Math.floor(i / 3) % SIDE,
  i % 3,
]);
const ids = Array.from({ length: 200 }, (_, id) => id);
const mean = (values: ArrayLike<number>) => Array.from(values).reduce((sum, value) => sum + value, 0) / values.length;

describe("augmentation", () => {
  it("changes nothing where nothing is asked for, and normalises each channel", () => {
    const stl10 = { mean: [0.4467, 0.4398, 0.4066], deviation: [0.2603, 0.2566, 0.2713] };
    const out = train(stl10);
    positions.forEach(([, , c], i) => {
      expect(out[i]).toBeCloseTo((IMAGE[i]! / 255 - stl10.mean[c!]!) / stl10.deviation[c!]!, 5);
    });
    const plain = new Float32Array(out.length);
    new Augmenter({ ...NOTHING, ...stl10 }, SHAPE, 1).plain(IMAGE, SIDE, plain);
    expect(out).toEqual(plain);
  });

  it("moves the image by whole pixels in a padded crop: each of the 25 shifts comes, zeros outside", () => {
    const seen = new Map<string, number>();
    for (const id of ids) {
      const out = train({ cropPadding: 2 }, { id });
      const shift = [-2, -1, 0, 1, 2]
        .flatMap((dy) => [-2, -1, 0, 1, 2].map((dx) => [dy, dx] as const))
        .find(([dy, dx]) =>
          positions.every(([y, x, c], i) => {
            const inside = y! + dy >= 0 && y! + dy < SIDE && x! + dx >= 0 && x! + dx < SIDE;
            return out[i] === (inside ? pixel(y! + dy, x! + dx, c!) : 0);
          }),
        );
      expect(shift).toBeDefined();
      seen.set(String(shift), (seen.get(String(shift)) ?? 0) + 1);
    }
    expect(seen.size).toBe(25);
  });

  it("mirrors at the border where it reflects", () => {
    const at = (i: number) => (i < 0 ? -i : i > SIDE - 1 ? 2 * (SIDE - 1) - i : i);
    let found = 0;
    for (const id of ids.slice(0, 60)) {
      const out = train({ cropPadding: 3, border: "reflect" }, { id });
      for (let dy = -3; dy <= 3; dy++) {
        for (let dx = -3; dx <= 3; dx++) {
          if (positions.every(([y, x, c], i) => out[i] === pixel(at(y! + dy), at(x! + dx), c!))) found += 1;
        }
      }
    }
    expect(found).toBe(60);
  });

  it("flips with the given probability", () => {
    const mirrored = positions.map(([y, x, c]) => pixel(y!, SIDE - 1 - x!, c!));
    expect([...train({ flip: 1 })]).toEqual(mirrored);
    const flips = ids.filter((id) => train({ flip: 0.5 }, { id })[0] === mirrored[0]).length;
    expect(flips).toBeGreaterThan(65); // five standard deviations around 100 of 200
    expect(flips).toBeLessThan(135);
    // Also where the crop is resampled.
    const whole = { resizedCrop: { area: [1, 1], aspect: [1, 1] } } as const;
    const expected = train({ ...settings(whole), flip: 0 });
    const flipped = train({ ...settings(whole), flip: 1 });
    for (const [i, [y, x, c]] of positions.entries())
      expect(flipped[i]).toBe(expected[(y! * SIDE + SIDE - 1 - x!) * 3 + c!]);
  });

  const settings = (crop: {
    resizedCrop: { readonly area: readonly [number, number]; readonly aspect: readonly [number, number] };
  }) => ({
    resizedCrop: {
      area: [...crop.resizedCrop.area] as [number, number],
      aspect: [...crop.resizedCrop.aspect] as [number, number],
    },
  });

  it("takes the whole image as a resized crop of area and aspect 1", () => {
    const out = train(settings({ resizedCrop: { area: [1, 1], aspect: [1, 1] } }));
    for (const [i, [y, x, c]] of positions.entries()) expect(out[i]).toBeCloseTo(pixel(y!, x!, c!), 6);
  });

  it("crops the asked area and aspect out of the image", () => {
    // On a ramp along x and y the crop's corners can be read off: value = a + b * position.
    const ramp = Uint8Array.from({ length: SIDE * SIDE * 3 }, (_, i) => {
      const [pixelIndex, c] = [Math.floor(i / 3), i % 3];
      return c === 0 ? 20 * (pixelIndex % SIDE) : c === 1 ? 20 * Math.floor(pixelIndex / SIDE) : 0;
    });
    const areas: number[] = [];
    const aspects: number[] = [];
    for (const id of ids) {
      const out = train(
        { ...settings({ resizedCrop: { area: [0.2, 0.5], aspect: [0.5, 2] } }), border: "reflect" },
        { id, image: ramp },
      );
      // Inner columns and rows are free of the border: step between neighbours = crop extent / side.
      const step = (channel: number, stride: number) => {
        const at = (3 * SIDE + 3) * 3 + channel;
        return ((out[at + stride]! - out[at]!) * 255) / 20;
      };
      const [w, h] = [Math.abs(step(0, 3)), Math.abs(step(1, 3 * SIDE))];
      areas.push(w * h);
      aspects.push(w / h);
    }
    expect(Math.min(...areas)).toBeGreaterThan(0.2 - 1e-3);
    expect(Math.max(...areas)).toBeLessThan(0.5 + 1e-3);
    expect(mean(areas)).toBeCloseTo(0.35, 1);
    expect(Math.min(...aspects)).toBeGreaterThan(0.5 - 1e-3);
    expect(Math.max(...aspects)).toBeLessThan(2 + 1e-3);
    expect(mean(aspects.map(Math.log))).toBeCloseTo(0, 0); // symmetric between wide and tall
  });

  it("adds one number to all pixels as brightness", () => {
    const before = train({});
    const shifts = ids.map((id) => {
      const out = train({ colour: { contrast: [1, 1], brightness: 0.3, saturation: [1, 1] } }, { id });
      const shift = out[0]! - before[0]!;
      for (const [i, value] of out.entries()) expect(value - before[i]!).toBeCloseTo(shift, 5);
      return shift;
    });
    expect(Math.max(...shifts.map(Math.abs))).toBeLessThanOrEqual(0.3 + 1e-6);
    expect(Math.min(...shifts)).toBeLessThan(-0.2);
    expect(Math.max(...shifts)).toBeGreaterThan(0.2);
  });

  it("keeps the image's mean under contrast and each pixel's grey under saturation", () => {
    const before = train({});
    const contrast = train({ colour: { contrast: [0.7, 0.7], brightness: 0, saturation: [1, 1] } });
    for (const [i, value] of contrast.entries())
      expect(value).toBeCloseTo(mean(before) + 0.7 * (before[i]! - mean(before)), 5);
    const grey = train({ colour: { contrast: [1, 1], brightness: 0, saturation: [0, 0] } });
    const vivid = train({ colour: { contrast: [1, 1], brightness: 0, saturation: [1.4, 1.4] } });
    for (let i = 0; i < before.length; i += 3) {
      const own = mean(before.subarray(i, i + 3));
      for (let c = 0; c < 3; c++) {
        expect(grey[i + c]).toBeCloseTo(own, 5);
        expect(vivid[i + c]).toBeCloseTo(own + 1.4 * (before[i + c]! - own), 5);
      }
    }
  });

  it("cuts out one square, which the edge of the image may clip", () => {
    const before = train({});
    const areas = ids.map((id) => {
      const out = train({ cutout: 0.5 }, { id });
      const cut = positions.filter((_, i) => out[i] === 0 && before[i] !== 0);
      const [ys, xs] = [cut.map(([y]) => y!), cut.map(([, x]) => x!)];
      const [h, w] = [Math.max(...ys) - Math.min(...ys) + 1, Math.max(...xs) - Math.min(...xs) + 1];
      expect(cut.length).toBe(h * w * 3);
      expect(Math.max(h, w)).toBeLessThanOrEqual(4);
      for (const [i, value] of out.entries()) expect(value === 0 || value === before[i]).toBe(true);
      return h * w;
    });
    expect(Math.max(...areas)).toBe(16);
    expect(Math.min(...areas)).toBe(4);
  });

  it("depends on seed, epoch and id alone, whatever was prepared before", () => {
    const full: Partial<Augmentation> = {
      ...settings({ resizedCrop: { area: [0.5, 1], aspect: [0.75, 4 / 3] } }),
      border: "reflect",
      flip: 0.5,
      colour: { contrast: [0.7, 1.3], brightness: 0.3, saturation: [0.6, 1.4] },
      cutout: 1 / 3,
    };
    const augmenter = new Augmenter({ ...NOTHING, ...full }, SHAPE, 7);
    const into = new Float32Array(6 * 6 * 3);
    fc.assert(
      fc.property(fc.nat({ max: 500 }), fc.nat({ max: 5000 }), (epoch, id) => {
        augmenter.train(IMAGE, epoch, id, 6, into);
        expect(into).toEqual(train(full, { epoch, id, seed: 7, side: 6 }));
      }),
      { numRuns: 50 },
    );
    const other = [{ seed: 8 }, { epoch: 1 }, { id: 1 }].map((change) => train(full, { seed: 7, ...change }));
    for (const image of other) expect(image).not.toEqual(train(full, { seed: 7 }));
  });

  it("shrinks whole images for evaluation without looking outside of them", () => {
    const flat = new Uint8Array(IMAGE.length).fill(51);
    const into = new Float32Array(5 * 5 * 3);
    new Augmenter(NOTHING, SHAPE, 1).plain(flat, 5, into);
    for (const value of into) expect(value).toBeCloseTo(0.2, 6);
  });

  it("refuses a normalisation for another number of channels", () => {
    expect(() => new Augmenter({ ...NOTHING, mean: [0] }, SHAPE, 1)).toThrow(RangeError);
  });
});

describe("whatever was prepared before", () => {
  /** As bits: zero has a sign, and what a thread did before must not show even in that. */
  const bits = (values: Float32Array) => [...new Uint32Array(values.buffer, values.byteOffset, values.length)];
  const stl10 = { mean: [0.4467, 0.4398, 0.4066], deviation: [0.2603, 0.2566, 0.2713] };
  const augmentations: Partial<Augmentation>[] = [
    { cropPadding: 4, border: "zero" },
    { resizedCrop: { area: [0.9, 1], aspect: [0.3, 3] }, border: "zero" },
    { resizedCrop: { area: [0.2, 1], aspect: [0.3, 3] }, border: "reflect", cutout: 0.3 },
  ];

  it.each(augmentations)("an image has the same bits: %j", (augmentation) => {
    for (const side of [SIDE, 12, 5]) {
      const settings = { ...NOTHING, ...stl10, ...augmentation };
      const used = new Augmenter(settings, SHAPE, 1);
      const dark = new Uint8Array(IMAGE.length);
      for (const id of ids) {
        // Below the mean everything is negative.
        used.train(dark, 0, id + 1000, side, new Float32Array(side * side * 3));
        const again = new Float32Array(side * side * 3);
        used.train(IMAGE, 0, id, side, again);
        const fresh = new Float32Array(side * side * 3);
        new Augmenter(settings, SHAPE, 1).train(IMAGE, 0, id, side, fresh);
        expect(bits(again), `image ${id} at ${side}`).toEqual(bits(fresh));
      }
    }
  });
});
