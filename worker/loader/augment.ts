import type { Augmentation } from "../../shared/config/schema.ts";
import type { ImageShape } from "../../shared/data/dataset.ts";
import { exp, ln } from "../../shared/plan/exact-math.ts";
import { DOMAIN, Stream } from "../../shared/plan/random.ts";
import { RandomOperations } from "./operations.ts";
import { Resampler, reflect, reversed, type Taps, tapsOf } from "./resize.ts";

/**
 * From a stored image to what the model sees: operations, normalise, crop, flip, colour, cutout. Every draw is keyed by (seed,
 * epoch, sample id) and made in this fixed order, so that an image looks the same whoever prepares it, and when.
 */
export class Augmenter {
  readonly #settings: Augmentation;
  readonly #shape: ImageShape;
  readonly #draw: Stream;
  readonly #seed: number;
  /** Normalised value of each byte, 256 for each channel. */
  readonly #normalised: Float32Array;
  readonly #image: Float32Array;
  readonly #operations: RandomOperations | null;
  readonly #resampler = new Resampler();
  /** Taps of whole lines, by their length and output size. */
  readonly #whole = new Map<string, Taps>();

  constructor(settings: Augmentation, shape: ImageShape, seed: number) {
    this.#settings = settings;
    this.#shape = shape;
    this.#seed = seed;
    this.#draw = new Stream(seed, DOMAIN.augmentation);
    const { operations } = settings;
    this.#operations = operations === undefined ? null : new RandomOperations(operations, settings, shape, seed);
    this.#normalised = normalisedBytes(settings, shape.channels);
    this.#image = new Float32Array(shape.channels * shape.height * shape.width);
  }

  /** Training form of a uint8 [height, width, channels] image: float32 [side, side, channels] in `into`. */
  train(image: Uint8Array, epoch: number, id: number, side: number, into: Float32Array): void {
    const { resizedCrop } = this.#settings;
    const draw = this.#draw.restart(this.#seed, DOMAIN.augmentation, epoch, id);
    this.#normalise(this.#operations?.apply(image, epoch, id) ?? image, this.#image);
    if (resizedCrop === null) this.#paddedCrop(draw, side, into);
    else this.#resizedCrop(draw, resizedCrop, side, into);
    this.#colour(draw, into);
    this.#cutout(draw, side, into);
  }

  /** Evaluation form: the whole image at `side`, normalised. */
  plain(image: Uint8Array, side: number, into: Float32Array): void {
    const { height, width } = this.#shape;
    if (height === side && width === side) return this.#normalise(image, into);
    this.#normalise(image, this.#image);
    this.#resample(this.#wholeTaps(width, side), this.#wholeTaps(height, side), into);
  }

  #normalise(image: Uint8Array, into: Float32Array): void {
    const { channels } = this.#shape;
    const table = this.#normalised;
    for (let c = 0; c < channels; c++) {
      const offset = 256 * c;
      for (let i = c; i < image.length; i += channels) into[i] = table[offset + image[i]!]!;
    }
  }

  /** A window of the image's own size, moved by up to cropPadding pixels (He et al. 2015, section 4.2). */
  #paddedCrop(draw: Stream, side: number, into: Float32Array): void {
    const { height, width } = this.#shape;
    const { cropPadding, border, flip } = this.#settings;
    const left = draw.integer(2 * cropPadding + 1) - cropPadding;
    const top = draw.integer(2 * cropPadding + 1) - cropPadding;
    const mirrored = draw.uniform() < flip;
    if (height === side && width === side) return this.#shift(left, top, mirrored, into);
    const centred = left === 0 && top === 0;
    const across = centred ? this.#wholeTaps(width, side) : tapsOf(width, left, width, side, border);
    const down = centred ? this.#wholeTaps(height, side) : tapsOf(height, top, height, side, border);
    this.#resample(mirrored ? reversed(across) : across, down, into);
  }

  /**
   * A window of random area and aspect (Szegedy et al. 2015, section 6), logarithm of the aspect uniform. A window that
   * is longer than the image in one direction holds the whole image there and the border around it.
   */
  #resizedCrop(draw: Stream, crop: NonNullable<Augmentation["resizedCrop"]>, side: number, into: Float32Array): void {
    const { height, width } = this.#shape;
    const { border, flip } = this.#settings;
    const area = draw.between(...crop.area);
    const [low, high] = crop.aspect;
    const aspect = exp(draw.between(ln(low), ln(high)));
    const cropWidth = width * Math.sqrt(area * aspect);
    const cropHeight = height * Math.sqrt(area / aspect);
    const left = draw.uniform() * (width - cropWidth);
    const top = draw.uniform() * (height - cropHeight);
    const mirrored = draw.uniform() < flip;
    const across = tapsOf(width, left, cropWidth, side, border);
    const down = tapsOf(height, top, cropHeight, side, border);
    this.#resample(mirrored ? reversed(across) : across, down, into);
  }

  #resample(across: Taps, down: Taps, into: Float32Array): void {
    this.#resampler.run(this.#image, this.#shape.width, this.#shape.channels, across, down, into);
  }

  #wholeTaps(extent: number, side: number): Taps {
    const key = `${extent}/${side}`;
    const taps = this.#whole.get(key) ?? tapsOf(extent, 0, extent, side, "edge");
    this.#whole.set(key, taps);
    return taps;
  }

  /** Copies pixels, moved by whole numbers of them. */
  #shift(left: number, top: number, mirrored: boolean, into: Float32Array): void {
    const { height, width, channels } = this.#shape;
    const { border } = this.#settings;
    const inside = (index: number, size: number) =>
      index >= 0 && index < size ? index : border === "zero" ? -1 : reflect(index, size);
    let to = 0;
    for (let y = 0; y < height; y++) {
      const row = inside(y + top, height);
      for (let x = 0; x < width; x++) {
        const column = inside((mirrored ? width - 1 - x : x) + left, width);
        const from = (row * width + column) * channels;
        const empty = row < 0 || column < 0;
        for (let c = 0; c < channels; c++) into[to++] = empty ? 0 : this.#image[from + c]!;
      }
    }
  }

  /** Saturation around each pixel's grey, contrast around the image's mean, brightness on top. */
  #colour(draw: Stream, pixels: Float32Array): void {
    const { colour } = this.#settings;
    if (colour === null) return;
    const { channels } = this.#shape;
    const contrast = draw.between(...colour.contrast);
    const brightness = draw.between(-colour.brightness, colour.brightness);
    const saturation = draw.between(...colour.saturation);
    let sum = 0;
    for (let i = 0; i < pixels.length; i++) sum += pixels[i]!;
    const mean = sum / pixels.length;
    const shift = mean - mean * contrast + brightness;
    const own = saturation * contrast;
    const shared = ((1 - saturation) * contrast) / channels;
    for (let i = 0; i < pixels.length; i += channels) {
      let total = 0;
      for (let c = 0; c < channels; c++) total += pixels[i + c]!;
      const common = total * shared + shift;
      for (let c = 0; c < channels; c++) pixels[i + c] = pixels[i + c]! * own + common;
    }
  }

  /** Sets a square to zero; its centre may be any pixel (DeVries and Taylor 2017). */
  #cutout(draw: Stream, side: number, pixels: Float32Array): void {
    const { channels } = this.#shape;
    const size = Math.round(this.#settings.cutout * side);
    if (size === 0) return;
    const left = draw.integer(side) - (size >> 1);
    const top = draw.integer(side) - (size >> 1);
    const [from, to] = [Math.max(0, left), Math.min(side, left + size)];
    for (let y = Math.max(0, top); y < Math.min(side, top + size); y++) {
      pixels.fill(0, (y * side + from) * channels, (y * side + to) * channels);
    }
  }
}

function normalisedBytes({ mean, deviation }: Augmentation, channels: number): Float32Array {
  if (mean.length !== channels || deviation.length !== channels) {
    throw new RangeError(
      `mean and deviation of ${mean.length} and ${deviation.length} channels, images of ${channels}`,
    );
  }
  return Float32Array.from(
    { length: 256 * channels },
    (_, i) => ((i & 255) / 255 - mean[i >> 8]!) / deviation[i >> 8]!,
  );
}
