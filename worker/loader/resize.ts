/**
 * Separable resampling with a triangle filter, widened where the image shrinks so that no pixel is skipped (antialiased
 * bilinear, as in Pillow and torchvision). Only + - * / on float64, stored as float32: the same bits on every machine.
 */
export type Border =
  /** What lies outside is 0. */
  | "zero"
  /** The image is mirrored at its outermost pixels, which are not repeated. */
  | "reflect"
  /** Nothing outside is looked at; the filter is cut off at the edge. For whole images. */
  | "edge";

/** How each output index is composed of source indices. */
export interface Taps {
  /** `count` source indices for each output index, all inside the source. */
  readonly indices: Int32Array;
  /** Their weights; they sum to 1, or to 0 for an output outside of a zero border. */
  readonly weights: Float64Array;
  readonly count: number;
}

/**
 * Composes `size` outputs from the interval [start, start + extent) of a line of `source` pixels, of which pixel i
 * covers [i, i + 1).
 */
export function tapsOf(source: number, start: number, extent: number, size: number, border: Border): Taps {
  const scale = extent / size;
  const radius = Math.max(1, scale);
  const count = Math.ceil(2 * radius);
  const indices = new Int32Array(size * count);
  const weights = new Float64Array(size * count);
  for (let output = 0; output < size; output++) {
    const centre = start + (output + 0.5) * scale - 0.5;
    if (border === "zero" && (centre < -0.5 || centre >= source - 0.5)) continue;
    const first = Math.floor(centre - radius) + 1;
    const at = output * count;
    let sum = 0;
    for (let k = 0; k < count; k++) {
      const index = border === "reflect" ? reflect(first + k, source) : first + k;
      const weight = index < 0 || index >= source ? 0 : Math.max(0, 1 - Math.abs(first + k - centre) / radius);
      indices[at + k] = weight === 0 ? 0 : index;
      weights[at + k] = weight;
      sum += weight;
    }
    for (let k = at; k < at + count; k++) weights[k] = weights[k]! / sum;
  }
  return { indices, weights, count };
}

/** The same outputs in reverse order. */
export function reversed({ indices, weights, count }: Taps): Taps {
  const size = indices.length / count;
  const order = (i: number) => (size - 1 - Math.floor(i / count)) * count + (i % count);
  return {
    indices: indices.map((_, i) => indices[order(i)]!),
    weights: weights.map((_, i) => weights[order(i)]!),
    count,
  };
}

/** The index inside 0 .. size - 1 to which `index` is mirrored. */
export function reflect(index: number, size: number): number {
  if (size === 1) return 0;
  const period = 2 * (size - 1);
  const inside = ((index % period) + period) % period;
  return inside < size ? inside : period - inside;
}

/** Resamples float32 [height, width, channels] images; keeps its work space between calls. */
export class Resampler {
  #lines = new Float32Array(0);

  /** Writes [down, across, channels] to `into`: first along the lines, then along the columns. */
  run(image: Float32Array, width: number, channels: number, across: Taps, down: Taps, into: Float32Array): void {
    const line = (across.indices.length / across.count) * channels;
    const height = image.length / (width * channels);
    if (this.#lines.length < height * line) this.#lines = new Float32Array(height * line);
    const lines = this.#lines;
    const used = new Uint8Array(height);
    for (let i = 0; i < down.indices.length; i++) if (down.weights[i] !== 0) used[down.indices[i]!] = 1;
    for (let row = 0; row < height; row++) {
      if (used[row] === 0) continue;
      const from = row * width * channels;
      if (channels === 3) resampleLineOf3(image, from, across, lines, row * line);
      else resampleLine(image, from, channels, across, lines, row * line);
    }
    combineLines(lines, line, down, into);
  }
}

function resampleLineOf3(image: Float32Array, from: number, taps: Taps, lines: Float32Array, to: number): void {
  const { indices, weights, count } = taps;
  for (let tap = 0, out = to; tap < indices.length; out += 3) {
    let a = 0;
    let b = 0;
    let c = 0;
    for (const end = tap + count; tap < end; tap++) {
      const weight = weights[tap]!;
      const at = from + indices[tap]! * 3;
      a += weight * image[at]!;
      b += weight * image[at + 1]!;
      c += weight * image[at + 2]!;
    }
    lines[out] = a;
    lines[out + 1] = b;
    lines[out + 2] = c;
  }
}

function resampleLine(
  image: Float32Array,
  from: number,
  channels: number,
  taps: Taps,
  lines: Float32Array,
  to: number,
): void {
  const { indices, weights, count } = taps;
  const size = indices.length / count;
  for (let output = 0; output < size; output++) {
    for (let channel = 0; channel < channels; channel++) {
      let sum = 0;
      for (let tap = output * count; tap < (output + 1) * count; tap++) {
        sum += weights[tap]! * image[from + indices[tap]! * channels + channel]!;
      }
      lines[to + output * channels + channel] = sum;
    }
  }
}

/** Each output line is a weighted sum of lines, summed in float64. */
function combineLines(lines: Float32Array, line: number, down: Taps, into: Float32Array): void {
  const { indices, weights, count } = down;
  const size = indices.length / count;
  for (let output = 0; output < size; output++) {
    const at = output * count;
    const to = output * line;
    if (count === 2) {
      const first = indices[at]! * line;
      const second = indices[at + 1]! * line;
      const u = weights[at]!;
      const v = weights[at + 1]!;
      // Where nothing is looked at, 0 times a line of an image before would be a zero of that image's sign; plus 0 it is +0.
      for (let i = 0; i < line; i++) into[to + i] = u * lines[first + i]! + v * lines[second + i]! + 0;
      continue;
    }
    for (let i = 0; i < line; i++) {
      let sum = 0;
      for (let k = at; k < at + count; k++) sum += weights[k]! * lines[indices[k]! * line + i]!;
      into[to + i] = sum;
    }
  }
}
