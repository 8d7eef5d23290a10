import type { Augmentation } from "../../shared/config/schema.ts";
import type { ImageShape } from "../../shared/data/dataset.ts";
import { DOMAIN, Stream } from "../../shared/plan/random.ts";
import { fold, Resampler, type Taps, tapsOf } from "./resize.ts";

/**
 * From a stored image to what the model sees in training. Every draw is keyed by (seed, epoch, sample id), in one fixed
 * order, so that an image looks the same whoever prepares it.
 */
export class Augmenter {
  private readonly settings: Augmentation;
  private readonly shape: ImageShape;
  private readonly seed: number;
  private readonly resampler = new Resampler();
  private readonly whole = new Map<number, Taps>();
  /** What lies outside of a zero border, in 0..255: the mean colour, which normalises to zero. */
  private readonly outside: readonly number[];

  constructor(settings: Augmentation, shape: ImageShape, seed: number) {
    this.settings = settings;
    this.shape = shape;
    this.seed = seed;
    this.outside = settings.mean.map((mean) => mean * 255);
  }

  /** Training form of a uint8 [height, width, channels] image, as float32 [side, side, channels] in `into`. */
  train(image: Uint8Array, epoch: number, id: number, side: number, into: Float32Array): void {
    const draw = new Stream(this.seed, DOMAIN.augmentation, epoch, id);
    this.crop(image, draw, side, into);
    const flip = draw.uniform() < this.settings.flip;
    if (flip) mirror(into, side, this.shape.channels);
    this.normalise(into, side);
    this.colour(into, draw, side);
    this.cutout(into, draw, side);
  }

  /** Evaluation form: the whole image at `side`, normalised. */
  plain(image: Uint8Array, side: number, into: Float32Array): void {
    const { height, width } = this.shape;
    if (height === side && width === side) into.set(image);
    else this.resample(image, 0, 0, width, height, side, into);
    this.normalise(into, side);
  }

  private crop(image: Uint8Array, draw: Stream, side: number, into: Float32Array): void {
    const { height, width, channels } = this.shape;
    const { resizedCrop, cropPadding, border } = this.settings;
    if (resizedCrop !== null) {
      const area = draw.between(...resizedCrop.area) * height * width;
      const [low, high] = resizedCrop.aspect;
      const aspect = draw.between(low, high);
      const cropWidth = Math.sqrt(area * aspect);
      const cropHeight = Math.sqrt(area / aspect);
      const left = draw.uniform() * (width - cropWidth);
      const top = draw.uniform() * (height - cropHeight);
      return this.resample(image, left, top, cropWidth, cropHeight, side, into);
    }
    const dx = cropPadding === 0 ? 0 : draw.integer(2 * cropPadding + 1) - cropPadding;
    const dy = cropPadding === 0 ? 0 : draw.integer(2 * cropPadding + 1) - cropPadding;
    if (height !== side || width !== side) return this.resample(image, dx, dy, width, height, side, into);
    let to = 0;
    for (let y = 0; y < side; y++) {
      const row = fold(y + dy, height, border);
      for (let x = 0; x < side; x++) {
        const column = fold(x + dx, width, border);
        const from = row < 0 || column < 0 ? -1 : (row * width + column) * channels;
        for (let c = 0; c < channels; c++) into[to++] = from < 0 ? this.outside[c]! : image[from + c]!;
      }
    }
  }

  private resample(image: Uint8Array, left: number, top: number, w: number, h: number, side: number, into: Float32Array) {
    const { border } = this.settings;
    const wholeImage = left === 0 && top === 0 && w === h;
    const across = wholeImage ? this.wholeTaps(w, side) : tapsOf(left, w, side);
    const down = wholeImage ? across : tapsOf(top, h, side);
    this.resampler.run(image, this.shape, across, down, border, this.outside, into, side);
  }

  private wholeTaps(extent: number, side: number): Taps {
    const known = this.whole.get(side) ?? tapsOf(0, extent, side);
    this.whole.set(side, known);
    return known;
  }

  private normalise(pixels: Float32Array, side: number): void {
    const { channels } = this.shape;
    const { mean, deviation } = this.settings;
    for (let c = 0; c < channels; c++) {
      const scale = 1 / (255 * deviation[c]!);
      const shift = mean[c]! / deviation[c]!;
      for (let i = c; i < side * side * channels; i += channels) pixels[i] = pixels[i]! * scale - shift;
    }
  }

  private colour(pixels: Float32Array, draw: Stream, side: number): void {
    const { colour } = this.settings;
    if (colour === null) return;
    const { channels } = this.shape;
    const contrast = draw.between(...colour.contrast);
    const brightness = draw.between(-colour.brightness, colour.brightness);
    const saturation = draw.between(...colour.saturation);
    const count = side * side * channels;
    let sum = 0;
    for (let i = 0; i < count; i++) sum += pixels[i]!;
    const mean = sum / count;
    for (let i = 0; i < count; i += channels) {
      let grey = 0;
      for (let c = 0; c < channels; c++) grey += pixels[i + c]!;
      grey /= channels;
      for (let c = 0; c < channels; c++) {
        const saturated = grey + (pixels[i + c]! - grey) * saturation;
        pixels[i + c] = mean + (saturated - mean) * contrast + brightness;
      }
    }
  }

  private cutout(pixels: Float32Array, draw: Stream, side: number): void {
    const { channels } = this.shape;
    const size = Math.round(this.settings.cutout * side);
    if (size === 0) return;
    const left = draw.integer(side) - (size >> 1);
    const top = draw.integer(side) - (size >> 1);
    for (let y = Math.max(0, top); y < Math.min(side, top + size); y++) {
      pixels.fill(0, (y * side + Math.max(0, left)) * channels, (y * side + Math.min(side, left + size)) * channels);
    }
  }
}

function mirror(pixels: Float32Array, side: number, channels: number): void {
  for (let y = 0; y < side; y++) {
    for (let x = 0; x < side >> 1; x++) {
      const a = (y * side + x) * channels;
      const b = (y * side + side - 1 - x) * channels;
      for (let c = 0; c < channels; c++) {
        const held = pixels[a + c]!;
        pixels[a + c] = pixels[b + c]!;
        pixels[b + c] = held;
      }
    }
  }
}
