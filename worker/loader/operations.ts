import type { Augmentation, ImageOperations } from "../../shared/config/schema.ts";
import type { ImageShape } from "../../shared/data/dataset.ts";
import { DOMAIN, Stream } from "../../shared/plan/random.ts";
import { type Affine, adjust, autocontrast, equalize, grey, posterize, sharpen, solarize, warp } from "./pixels.ts";

/** What each operation does at most, at strength 1. */
const MOST = {
  /** Tangent of half of 30 degrees: cosine and sine follow from it by + - * / alone. */
  halfRotation: 0.2679491924311227,
  shear: 0.3,
  /** Part of the side. */
  shift: 0.3,
  /** Change of the factor of saturation, contrast, brightness and sharpness. */
  factor: 0.9,
  /** Bits that are dropped of eight. */
  bits: 4,
} as const;

export const OPERATIONS = [
  "identity",
  "autocontrast",
  "equalize",
  "rotate",
  "shearX",
  "shearY",
  "shiftX",
  "shiftY",
  "solarize",
  "posterize",
  "saturation",
  "contrast",
  "brightness",
  "sharpness",
] as const;
export type Operation = (typeof OPERATIONS)[number];

/**
 * Random operations on the stored image before it is cropped, after RandAugment (Cubuk et al. 2020): a number of them, each
 * drawn with equal chances, one after the other. Unlike there the strength of each is uniform up to the given one, as in
 * TrivialAugment (Müller and Hutter 2021), so that there is nothing to tune but the bound. Keyed by (seed, epoch, sample id).
 */
export class RandomOperations {
  readonly #settings: ImageOperations;
  readonly #shape: ImageShape;
  readonly #seed: number;
  readonly #draw: Stream;
  readonly #border: Augmentation["border"];
  /** What lies outside of a zero border: the byte that normalises to about 0. */
  readonly #outside: readonly number[];
  readonly #images: [Uint8Array, Uint8Array];

  constructor(settings: ImageOperations, { border, mean }: Augmentation, shape: ImageShape, seed: number) {
    this.#settings = settings;
    this.#shape = shape;
    this.#seed = seed;
    this.#draw = new Stream(seed, DOMAIN.operations);
    this.#border = border;
    this.#outside = mean.map((value) => Math.max(0, Math.min(255, Math.round(value * 255))));
    const bytes = shape.channels * shape.height * shape.width;
    this.#images = [new Uint8Array(bytes), new Uint8Array(bytes)];
  }

  /** Of a uint8 [height, width, channels] image; what is returned is overwritten by the next call, the image is not. */
  apply(image: Uint8Array, epoch: number, id: number): Uint8Array {
    const draw = this.#draw.restart(this.#seed, DOMAIN.operations, epoch, id);
    let from = image;
    for (let i = 0; i < this.#settings.count; i++) {
      const operation = OPERATIONS[draw.integer(OPERATIONS.length)]!;
      const strength = draw.uniform() * this.#settings.strength;
      const signed = draw.uniform() < 0.5 ? -strength : strength;
      const into = this.#images[i & 1]!;
      this.run(operation, signed, from, into);
      from = into;
    }
    return from;
  }

  /** One operation. @param strength -1 to 1; its sign counts where there are two directions */
  run(operation: Operation, strength: number, from: Uint8Array, into: Uint8Array): void {
    const { channels, height, width } = this.#shape;
    const factor = 1 + strength * MOST.factor;
    switch (operation) {
      case "identity":
        into.set(from);
        return;
      case "autocontrast":
        return autocontrast(from, channels, into);
      case "equalize":
        return equalize(from, channels, into);
      case "rotate": {
        const t = strength * MOST.halfRotation;
        const [cosine, sine] = [(1 - t * t) / (1 + t * t), (2 * t) / (1 + t * t)];
        return this.#warp(from, [cosine, -sine, 0, sine, cosine, 0], into);
      }
      case "shearX":
        return this.#warp(from, [1, strength * MOST.shear, 0, 0, 1, 0], into);
      case "shearY":
        return this.#warp(from, [1, 0, 0, strength * MOST.shear, 1, 0], into);
      case "shiftX":
        return this.#warp(from, [1, 0, strength * MOST.shift * width, 0, 1, 0], into);
      case "shiftY":
        return this.#warp(from, [1, 0, 0, 0, 1, strength * MOST.shift * height], into);
      case "solarize":
        return solarize(from, 256 - 256 * Math.abs(strength), into);
      case "posterize":
        return posterize(from, Math.round(Math.abs(strength) * MOST.bits), into);
      case "saturation":
        return adjust(from, grey(from, channels), factor, into);
      case "contrast": {
        const mean = grey(from, channels).reduce((sum, value) => sum + value, 0) / from.length;
        return adjust(from, new Float64Array(from.length).fill(mean), factor, into);
      }
      case "brightness":
        return adjust(from, new Float64Array(from.length), factor, into);
      case "sharpness":
        return sharpen(from, this.#shape, factor, into);
      default:
        return operation satisfies never;
    }
  }

  #warp(from: Uint8Array, affine: Affine, into: Uint8Array): void {
    warp(from, this.#shape, affine, { border: this.#border, outside: this.#outside }, into);
  }
}
