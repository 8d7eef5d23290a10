import { describe, expect, it, test } from "vitest";
import type { Mixing } from "../../shared/config/schema.ts";
import { DOMAIN, Stream } from "../../shared/plan/random.ts";
import { beta, Mixer } from "../../worker/loader/mix.ts";

const SIDE = 8;
const CHANNELS = 3;
const PIXELS = SIDE * SIDE * CHANNELS;
const SAMPLES = 6;

/** Image i is i + 1 everywhere, its label i, its id 10 + i. */
function mixed(mixing: Partial<Mixing>, { epoch = 0, seed = 1, samples = SAMPLES, first = 10 } = {}) {
  const images = Float32Array.from({ length: samples * PIXELS }, (_, i) => Math.floor(i / PIXELS) + 1);
  const labels = Int32Array.from({ length: samples }, (_, i) => i);
  const ids = Int32Array.from({ length: samples }, (_, i) => first + i);
  const batch = { images, labels, ids, otherLabels: new Int32Array(samples), shares: new Float32Array(samples) };
  new Mixer({ probability: 1, cutmix: 0, alpha: 1, ...mixing }, CHANNELS, seed).mix(batch, epoch, SIDE);
  const image = (i: number) => [...images.subarray(i * PIXELS, (i + 1) * PIXELS)];
  return { ...batch, image };
}

const epochs = Array.from({ length: 200 }, (_, epoch) => epoch);

describe("mixup", () => {
  it("blends each image with one other of the micro-batch by the share that goes with its label", () => {
    const partners = new Set<string>();
    for (const epoch of epochs) {
      const { image, otherLabels, shares } = mixed({}, { epoch });
      for (let i = 0; i < SAMPLES; i++) {
        const [share, other] = [shares[i]!, otherLabels[i]!];
        expect(other).not.toBe(i);
        expect(share).toBeGreaterThanOrEqual(0.5);
        expect(share).toBeLessThanOrEqual(1);
        for (const value of image(i)) expect(value).toBeCloseTo(share * (i + 1) + (1 - share) * (other + 1), 5);
        partners.add(`${i} ${other}`);
      }
    }
    expect(partners.size).toBe(SAMPLES * (SAMPLES - 1));
  });
});

describe("CutMix", () => {
  it("puts one rectangle of the other image in its own place, and the share is the part that is left", () => {
    let clipped = 0;
    for (const epoch of epochs) {
      const { image, otherLabels, shares } = mixed({ cutmix: 1 }, { epoch });
      for (let i = 0; i < SAMPLES; i++) {
        const values = image(i);
        const foreign = values.flatMap((value, at) => (value === i + 1 ? [] : [{ value, at }]));
        expect(foreign.every(({ value }) => value === otherLabels[i]! + 1)).toBe(true);
        expect(shares[i]).toBeCloseTo(1 - foreign.length / PIXELS, 6);
        if (foreign.length === 0) continue;
        const rows = foreign.map(({ at }) => Math.floor(at / (SIDE * CHANNELS)));
        const columns = foreign.map(({ at }) => Math.floor(at / CHANNELS) % SIDE);
        const extent = (places: number[]) => Math.max(...places) - Math.min(...places) + 1;
        // Nothing is missing inside: it is one rectangle over all channels.
        expect(foreign.length).toBe(extent(rows) * extent(columns) * CHANNELS);
        if (extent(rows) !== extent(columns)) clipped += 1;
      }
    }
    expect(clipped).toBeGreaterThan(50);
  });
});

describe("what is mixed", () => {
  it("is as many images as were asked for, and of these as many rectangles", () => {
    let [whole, blended, cut] = [0, 0, 0];
    for (const epoch of epochs) {
      const { image, shares, labels, otherLabels } = mixed({ probability: 0.7, cutmix: 0.25 }, { epoch });
      for (let i = 0; i < SAMPLES; i++) {
        if (otherLabels[i] === labels[i]) {
          whole += 1;
          expect([shares[i], new Set(image(i))]).toEqual([1, new Set([i + 1])]);
        } else if (new Set(image(i)).size > 1 || shares[i] === 1) cut += 1;
        else blended += 1;
      }
    }
    const all = epochs.length * SAMPLES;
    expect(whole / all).toBeCloseTo(0.3, 1);
    expect(cut / (cut + blended)).toBeCloseTo(0.25, 1);
  });

  it("depends on seed, epoch and sample id, and on what else is in the micro-batch by the partner alone", () => {
    const shares = (options: Parameters<typeof mixed>[1]) => [...mixed({}, options).shares];
    expect(shares({})).toEqual(shares({}));
    expect(shares({ epoch: 1 })).not.toEqual(shares({}));
    expect(shares({ seed: 2 })).not.toEqual(shares({}));
    expect(shares({ first: 12 }).slice(0, 4)).toEqual(shares({}).slice(2));
    expect(shares({ samples: 4 })).toEqual(shares({}).slice(0, 4));
  });

  it("is nothing where an image is alone", () => {
    const { shares, otherLabels, image } = mixed({}, { samples: 1 });
    expect([shares[0], otherLabels[0], image(0)[0]]).toEqual([1, 0, 1]);
  });
});

// Mean and variance of Beta(a, a) are 1/2 and 1 / (4 (2a + 1)); its fourth central moment is 3 / (16 (2a + 1) (2a + 3)).
test.each([0.1, 0.2, 0.5, 1])("shares follow Beta(%d, %d) by their first moments", (alpha) => {
  const draw = new Stream(7, DOMAIN.mixing);
  const centred = Array.from({ length: 40_000 }, () => beta(draw, alpha) - 0.5);
  const moment = (power: number) => centred.reduce((sum, value) => sum + value ** power, 0) / centred.length;
  expect(moment(1)).toBeCloseTo(0, 2);
  expect(moment(2) / (1 / (4 * (2 * alpha + 1)))).toBeCloseTo(1, 1);
  expect(moment(4) / (3 / (16 * (2 * alpha + 1) * (2 * alpha + 3)))).toBeCloseTo(1, 1);
});
