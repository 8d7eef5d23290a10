/**
 * Separable resampling with a triangle filter, widened where the image shrinks so that nothing is skipped (antialiased
 * bilinear). Only + - * / on float64, stored as float32: the same bits on every machine.
 */
export interface Taps {
  /** First source index of each output index, not yet folded at the border. */
  readonly first: Int32Array;
  /** `count` weights for each output index, summing to 1. */
  readonly weights: Float64Array;
  readonly count: number;
}

/** Weights that map the source interval [start, start + extent) onto `size` outputs. */
export function tapsOf(start: number, extent: number, size: number): Taps {
  const scale = extent / size;
  const radius = Math.max(1, scale);
  const count = Math.ceil(radius * 2) + 1;
  const first = new Int32Array(size);
  const weights = new Float64Array(size * count);
  for (let i = 0; i < size; i++) {
    const centre = start + (i + 0.5) * scale - 0.5;
    const from = Math.ceil(centre - radius);
    first[i] = from;
    let sum = 0;
    for (let k = 0; k < count; k++) {
      const weight = Math.max(0, 1 - Math.abs(from + k - centre) / radius);
      weights[i * count + k] = weight;
      sum += weight;
    }
    for (let k = 0; k < count; k++) weights[i * count + k]! /= sum;
  }
  return { first, weights, count };
}

export type Border = "zero" | "reflect";

/** Index inside 0..size-1 that stands for `index`, or -1 for what lies outside of a zero border. */
export function fold(index: number, size: number, border: Border): number {
  if (index >= 0 && index < size) return index;
  if (border === "zero") return -1;
  if (size === 1) return 0;
  const period = 2 * (size - 1);
  const inside = ((index % period) + period) % period;
  return inside < size ? inside : period - inside;
}

/** Resamples uint8 [height, width, channels] to float32 [size, size, channels]; outside of a zero border lies `outside`. */
export class Resampler {
  private rows = new Float32Array(0);

  run(
    image: Uint8Array,
    shape: { readonly channels: number; readonly height: number; readonly width: number },
    across: Taps,
    down: Taps,
    border: Border,
    outside: readonly number[],
    into: Float32Array,
    size: number,
  ): void {
    const { channels, height, width } = shape;
    if (this.rows.length < height * size * channels) this.rows = new Float32Array(height * size * channels);
    const { rows } = this;
    for (let x = 0; x < size; x++) {
      for (let y = 0; y < height; y++) {
        for (let c = 0; c < channels; c++) {
          let sum = 0;
          for (let k = 0; k < across.count; k++) {
            const weight = across.weights[x * across.count + k]!;
            if (weight === 0) continue;
            const column = fold(across.first[x]! + k, width, border);
            sum += weight * (column < 0 ? outside[c]! : image[(y * width + column) * channels + c]!);
          }
          rows[(y * size + x) * channels + c] = sum;
        }
      }
    }
    const line = size * channels;
    for (let y = 0; y < size; y++) {
      const to = y * line;
      into.fill(0, to, to + line);
      for (let k = 0; k < down.count; k++) {
        const weight = down.weights[y * down.count + k]!;
        if (weight === 0) continue;
        const row = fold(down.first[y]! + k, height, border);
        for (let i = 0; i < line; i++) {
          const value = row < 0 ? outside[i % channels]! : rows[row * line + i]!;
          into[to + i]! += weight * value;
        }
      }
    }
  }
}
