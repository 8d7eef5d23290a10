import type { ImageShape } from "../../shared/data/dataset.ts";
import { reflect } from "./resize.ts";

/**
 * Operations on stored images, uint8 [height, width, channels]: each writes another image of that form. Values are computed
 * in float64 from + - * / alone, rounded to the nearest byte and clipped, so that every machine makes the same bytes.
 */

const byte = (value: number): number => Math.max(0, Math.min(255, Math.round(value)));

/** Rows of the map from a place of the result to one of the source, both measured from the image's centre. */
export type Affine = readonly [xx: number, xy: number, x: number, yx: number, yy: number, y: number];

/** What lies outside of the image: a byte for each channel, or the image mirrored at its outermost pixels. */
export interface Outside {
  readonly border: "zero" | "reflect";
  readonly outside: readonly number[];
}

/** Takes each pixel from where the map says, between pixels bilinearly. */
export function warp(
  from: Uint8Array,
  { channels, height, width }: ImageShape,
  [xx, xy, x0, yx, yy, y0]: Affine,
  { border, outside }: Outside,
  into: Uint8Array,
): void {
  const [centreX, centreY] = [(width - 1) / 2, (height - 1) / 2];
  const at = (row: number, column: number, c: number): number => {
    const inside = row >= 0 && row < height && column >= 0 && column < width;
    if (!inside && border === "zero") return outside[c]!;
    const [r, k] = inside ? [row, column] : [reflect(row, height), reflect(column, width)];
    return from[(r * width + k) * channels + c]!;
  };
  let to = 0;
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      const [dx, dy] = [column - centreX, row - centreY];
      const x = xx * dx + xy * dy + x0 + centreX;
      const y = yx * dx + yy * dy + y0 + centreY;
      const [left, top] = [Math.floor(x), Math.floor(y)];
      const [u, v] = [x - left, y - top];
      for (let c = 0; c < channels; c++) {
        const above = (1 - u) * at(top, left, c) + u * at(top, left + 1, c);
        const below = (1 - u) * at(top + 1, left, c) + u * at(top + 1, left + 1, c);
        into[to++] = byte((1 - v) * above + v * below);
      }
    }
  }
}

/** Stretches each channel so that its least value becomes 0 and its largest 255. */
export function autocontrast(from: Uint8Array, channels: number, into: Uint8Array): void {
  for (let c = 0; c < channels; c++) {
    let [low, high] = [255, 0];
    for (let i = c; i < from.length; i += channels) {
      low = Math.min(low, from[i]!);
      high = Math.max(high, from[i]!);
    }
    const scale = high > low ? 255 / (high - low) : 0;
    for (let i = c; i < from.length; i += channels) into[i] = scale === 0 ? from[i]! : byte((from[i]! - low) * scale);
  }
}

/** Spreads the values of each channel so that all are about as frequent: a value becomes its rank. */
export function equalize(from: Uint8Array, channels: number, into: Uint8Array): void {
  const pixels = from.length / channels;
  const counts = new Uint32Array(256);
  const table = new Uint8Array(256);
  for (let c = 0; c < channels; c++) {
    counts.fill(0);
    for (let i = c; i < from.length; i += channels) counts[from[i]!]! += 1;
    const first = counts.find((count) => count > 0)!;
    // Pixels below a value, those of the least one not counted, over all that are not of the least one.
    for (let value = 0, below = 0; value < 256; value++) {
      below += counts[value]!;
      table[value] = pixels === first ? value : byte((255 * Math.max(0, below - first)) / (pixels - first));
    }
    for (let i = c; i < from.length; i += channels) into[i] = table[from[i]!]!;
  }
}

/** Inverts what is at least as bright as the threshold. */
export function solarize(from: Uint8Array, threshold: number, into: Uint8Array): void {
  for (let i = 0; i < from.length; i++) into[i] = from[i]! >= threshold ? 255 - from[i]! : from[i]!;
}

/** Drops so many of the lowest bits. */
export function posterize(from: Uint8Array, bits: number, into: Uint8Array): void {
  for (let i = 0; i < from.length; i++) into[i] = (from[i]! >> bits) << bits;
}

/** Each pixel's grey (ITU-R BT.601, or the mean of other than three channels) in place of its channels. */
export function grey(from: Uint8Array, channels: number): Float64Array {
  const result = new Float64Array(from.length);
  for (let i = 0; i < from.length; i += channels) {
    let sum = 0;
    if (channels === 3) sum = 0.299 * from[i]! + 0.587 * from[i + 1]! + 0.114 * from[i + 2]!;
    else for (let c = 0; c < channels; c++) sum += from[i + c]! / channels;
    result.fill(sum, i, i + channels);
  }
  return result;
}

/** base + factor * (image - base): 0 gives the base, 1 the image, more than 1 moves away from the base. */
export function adjust(from: Uint8Array, base: ArrayLike<number>, factor: number, into: Uint8Array): void {
  for (let i = 0; i < from.length; i++) into[i] = byte(base[i]! + factor * (from[i]! - base[i]!));
}

/** Moves away from the image smoothed by (1 1 1, 1 5 1, 1 1 1) / 13; the outermost pixels stay. */
export function sharpen(
  from: Uint8Array,
  { channels, height, width }: ImageShape,
  factor: number,
  into: Uint8Array,
): void {
  const smooth = Float64Array.from(from);
  const line = width * channels;
  for (let row = 1; row < height - 1; row++) {
    for (let at = row * line + channels; at < (row + 1) * line - channels; at++) {
      let sum = 4 * from[at]!;
      for (let other = at - line; other <= at + line; other += line) {
        sum += from[other - channels]! + from[other]! + from[other + channels]!;
      }
      smooth[at] = sum / 13;
    }
  }
  adjust(from, smooth, factor, into);
}
