import type { Stream } from "../../../shared/plan/random.ts";

/** Shares of the four direct and of the four diagonal neighbours in an imputed pixel (Rong et al. 2022). */
const DIRECT = 1 / 6;
const DIAGONAL = 1 / 12;
/** Deviation of the noise on imputed pixels, in units of normalised pixels, as in the paper's program. */
const NOISE = 0.01;
/** The solver ends when the residual has shrunk so far, or after so many rounds: far below the noise. */
const TOLERANCE = 1e-4;
const MOST_ROUNDS = 500;

/** float32 [height, width, channels], row by row. */
export interface Raster {
  readonly height: number;
  readonly width: number;
  readonly channels: number;
  readonly values: Float32Array;
}

/**
 * Removes pixels so that nothing of them is left and no edge betrays where they were: noisy linear imputation of ROAD (Rong
 * et al. 2022, A Consistent and Efficient Evaluation Strategy for Attribution Methods). Each removed pixel becomes the
 * weighted mean of its eight neighbours, removed ones included, which is a sparse linear system; then comes a little noise,
 * so that the smooth patch itself says nothing. Without any pixel left, the picture becomes its channels' mean.
 * @param removed 1 for pixels to remove, [height * width]
 */
export function impute({ height, width, channels, values }: Raster, removed: Uint8Array, noise: Stream): Float32Array {
  const filled = values.slice();
  const system = systemOf(height, width, removed);
  for (let c = 0; c < channels; c++) {
    const solution = solve(system, (pixel) => values[pixel * channels + c]!);
    system.pixels.forEach((pixel, i) => {
      filled[pixel * channels + c] = solution[i]! + NOISE * noise.normal();
    });
  }
  return filled;
}

interface System {
  /** Pixels that are removed. */
  readonly pixels: readonly number[];
  /** Sum of the weights of each removed pixel's neighbours: less than 1 at the border. */
  readonly diagonal: Float64Array;
  /** For each removed pixel up to eight neighbours: place among the removed ones, or -1 - pixel for one that is known. */
  readonly neighbours: Int32Array;
  readonly weights: Float64Array;
  /** Number of pixels that are known. */
  readonly known: number;
  readonly removed: Uint8Array;
}

const NONE = -0x7fffffff;

function systemOf(height: number, width: number, removed: Uint8Array): System {
  const pixels: number[] = [];
  const place = new Int32Array(removed.length).fill(-1);
  removed.forEach((gone, pixel) => {
    if (gone === 1) place[pixel] = pixels.push(pixel) - 1;
  });
  const neighbours = new Int32Array(8 * pixels.length).fill(NONE);
  const weights = new Float64Array(8 * pixels.length);
  const diagonal = new Float64Array(pixels.length);
  pixels.forEach((pixel, i) => {
    const [row, column] = [Math.floor(pixel / width), pixel % width];
    let slot = 8 * i;
    for (let dy = -1; dy <= 1; dy++) {
      for (let dx = -1; dx <= 1; dx++) {
        const [y, x] = [row + dy, column + dx];
        if ((dy === 0 && dx === 0) || y < 0 || x < 0 || y >= height || x >= width) continue;
        const other = y * width + x;
        const weight = dy === 0 || dx === 0 ? DIRECT : DIAGONAL;
        neighbours[slot] = removed[other] === 1 ? place[other]! : -1 - other;
        weights[slot++] = weight;
        diagonal[i]! += weight;
      }
    }
  });
  return { pixels, diagonal, neighbours, weights, known: removed.length - pixels.length, removed };
}

/** Conjugate gradients (Hestenes, Stiefel 1952): the system is symmetric and, with any known pixel, positive definite. */
function solve(system: System, at: (pixel: number) => number): Float64Array {
  const { pixels, diagonal, neighbours, weights, known, removed } = system;
  const count = pixels.length;
  const x = new Float64Array(count).fill(meanOf(known === 0 ? null : removed, removed.length, at));
  if (known === 0) return x;
  const product = (of: Float64Array, into: Float64Array) => {
    for (let i = 0; i < count; i++) {
      let sum = diagonal[i]! * of[i]!;
      for (let slot = 8 * i; slot < 8 * i + 8; slot++) {
        const other = neighbours[slot]!;
        if (other >= 0) sum -= weights[slot]! * of[other]!;
      }
      into[i] = sum;
    }
  };
  const residual = new Float64Array(count);
  product(x, residual);
  for (let i = 0; i < count; i++) {
    let right = 0;
    for (let slot = 8 * i; slot < 8 * i + 8; slot++) {
      const other = neighbours[slot]!;
      if (other < 0 && other !== NONE) right += weights[slot]! * at(-1 - other);
    }
    residual[i] = right - residual[i]!;
  }
  const direction = residual.slice();
  const image = new Float64Array(count);
  let square = dot(residual, residual);
  const enough = square * TOLERANCE ** 2;
  for (let round = 0; round < MOST_ROUNDS && square > enough && square > 0; round++) {
    product(direction, image);
    const step = square / dot(direction, image);
    for (let i = 0; i < count; i++) {
      x[i]! += step * direction[i]!;
      residual[i]! -= step * image[i]!;
    }
    const next = dot(residual, residual);
    for (let i = 0; i < count; i++) direction[i] = residual[i]! + (next / square) * direction[i]!;
    square = next;
  }
  return x;
}

/** Mean of the pixels that are known; of all where `removed` is null. */
function meanOf(removed: Uint8Array | null, pixels: number, at: (pixel: number) => number): number {
  let [sum, count] = [0, 0];
  for (let pixel = 0; pixel < pixels; pixel++) {
    if (removed !== null && removed[pixel] === 1) continue;
    sum += at(pixel);
    count += 1;
  }
  return sum / count;
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!;
  return sum;
}
