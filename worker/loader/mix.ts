import type { Mixing } from "../../shared/config/schema.ts";
import { exp, ln } from "../../shared/plan/exact-math.ts";
import { DOMAIN, Stream } from "../../shared/plan/random.ts";

/** A prepared micro-batch whose images are to be mixed with each other. */
export interface Mixable {
  /** float32 [samples, side, side, channels]; mixed in place. */
  readonly images: Float32Array;
  /** int32 [samples] */
  readonly labels: Int32Array;
  /** int32 [samples]: sample ids. */
  readonly ids: Int32Array;
  /** int32 [samples], written: the label of each image's partner, its own where it stays as it is. */
  readonly otherLabels: Int32Array;
  /** float32 [samples], written: how much of each image is its own, from 0.5 to 1. */
  readonly shares: Float32Array;
}

/**
 * Mixes images with partners of the same micro-batch: a blend of both (mixup, Zhang et al. 2018) or a rectangle of the
 * partner inside the image (CutMix, Yun et al. 2019). Every draw is keyed by (seed, epoch, sample id), and a micro-batch is
 * the plan's, so that nothing depends on who prepares it. The larger share is always the image's own: of a pair (a, b)
 * with share s the papers draw (b, a) with 1 - s as often, and so each sample stays itself once an epoch.
 */
export class Mixer {
  readonly #mixing: Mixing;
  readonly #seed: number;
  readonly #channels: number;
  readonly #draw: Stream;
  #sources = new Float32Array(0);

  constructor(mixing: Mixing, channels: number, seed: number) {
    this.#mixing = mixing;
    this.#channels = channels;
    this.#seed = seed;
    this.#draw = new Stream(seed, DOMAIN.mixing);
  }

  /** @param side of the images in pixels */
  mix({ images, labels, ids, otherLabels, shares }: Mixable, epoch: number, side: number): void {
    const { probability, cutmix, alpha } = this.#mixing;
    const samples = labels.length;
    const pixels = images.length / samples;
    if (this.#sources.length < images.length) this.#sources = new Float32Array(images.length);
    const sources = this.#sources;
    sources.set(images);
    for (let i = 0; i < samples; i++) {
      const draw = this.#draw.restart(this.#seed, DOMAIN.mixing, epoch, ids[i]!);
      otherLabels[i] = labels[i]!;
      shares[i] = 1;
      if (draw.uniform() >= probability || samples < 2) continue;
      const behind = draw.integer(samples - 1);
      const partner = behind < i ? behind : behind + 1;
      const drawn = beta(draw, alpha);
      const share = Math.max(drawn, 1 - drawn);
      const image = images.subarray(i * pixels, (i + 1) * pixels);
      const other = sources.subarray(partner * pixels, (partner + 1) * pixels);
      otherLabels[i] = labels[partner]!;
      shares[i] = draw.uniform() < cutmix ? this.#cut(draw, image, other, side, share) : blend(image, other, share);
    }
  }

  /** Puts a rectangle of the partner in its own place; its centre may be any pixel. Returns the share that is left. */
  #cut(draw: Stream, image: Float32Array, other: Float32Array, side: number, share: number): number {
    const channels = this.#channels;
    const size = Math.round(side * Math.sqrt(1 - share));
    const left = draw.integer(side) - (size >> 1);
    const top = draw.integer(side) - (size >> 1);
    const [x, right] = [Math.max(0, left), Math.min(side, left + size)];
    const [y, bottom] = [Math.max(0, top), Math.min(side, top + size)];
    for (let row = y; row < bottom; row++) {
      const from = (row * side + x) * channels;
      image.set(other.subarray(from, (row * side + right) * channels), from);
    }
    return 1 - ((right - x) * (bottom - y)) / (side * side);
  }
}

function blend(image: Float32Array, other: Float32Array, share: number): number {
  for (let i = 0; i < image.length; i++) image[i] = share * image[i]! + (1 - share) * other[i]!;
  return share;
}

/**
 * A draw of Beta(alpha, alpha) for alpha up to 1, by Jöhnk's method (Metrika 8, 1964) on operations that every machine
 * rounds alike.
 */
export function beta(draw: Pick<Stream, "uniform">, alpha: number): number {
  if (alpha === 1) return draw.uniform();
  // Half a step above 0, whose logarithm would be infinite.
  const power = () => exp(ln(draw.uniform() + 2 ** -25) / alpha);
  for (;;) {
    const [x, y] = [power(), power()];
    if (x + y <= 1 && x + y > 0) return x / (x + y);
  }
}
