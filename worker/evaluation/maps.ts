/** A grid of numbers, row by row. */
export interface Grid {
  readonly height: number;
  readonly width: number;
  readonly values: Float32Array;
}

/**
 * What a class activation map can say:
 * - `evidence`: some places speak for the class more than others;
 * - `uniform`: every place speaks for it alike, so the map points nowhere;
 * - `none`: no place speaks for it, all evidence is against;
 * - `invalid`: the map holds NaN or infinity.
 */
export type MapKind = "evidence" | "uniform" | "none" | "invalid";

export interface NormalisedMap extends Grid {
  readonly kind: MapKind;
  /** Largest value before normalisation: the logit that a picture full of this place would give. */
  readonly peak: number;
}

/** Range of a map, relative to its largest magnitude, below which it counts as uniform: float32's rounding. */
const FLAT = 1e-6;

/**
 * Brings a map into 0..1: evidence against the class is cut off at zero (as in Selvaraju et al. 2017), the rest divided by
 * `scale`, by default the map's own peak. Zero stays zero, so that no evidence never looks like some; a map is only
 * compared with another one if both are given the same scale. A uniform map becomes uniform, `none` and `invalid` zero.
 */
export function normaliseMap({ height, width, values }: Grid, scale?: number): NormalisedMap {
  let low = Number.POSITIVE_INFINITY;
  let peak = Number.NEGATIVE_INFINITY;
  for (const value of values) {
    if (!Number.isFinite(value)) {
      return { height, width, values: new Float32Array(values.length), kind: "invalid", peak: Number.NaN };
    }
    low = Math.min(low, value);
    peak = Math.max(peak, value);
  }
  const uniform = peak - low <= FLAT * Math.max(Math.abs(low), Math.abs(peak));
  const kind: MapKind = peak <= 0 ? "none" : uniform ? "uniform" : "evidence";
  const divisor = Math.max(scale ?? peak, Number.MIN_VALUE);
  const normal = values.map((value) => (peak <= 0 ? 0 : Math.min(1, Math.max(0, value / divisor))));
  return { height, width, values: normal, kind, peak };
}

/**
 * Enlarges a grid by bilinear interpolation with pixel centres at half integers and borders repeated: the convention of
 * OpenCV's INTER_LINEAR and of align_corners=false, in which a feature's value sits in the middle of the pixels that it
 * stands for.
 */
export function upsample({ height, width, values }: Grid, toHeight: number, toWidth: number): Grid {
  const rows = taps(height, toHeight);
  const columns = taps(width, toWidth);
  const enlarged = new Float32Array(toHeight * toWidth);
  rows.forEach((row, y) => {
    columns.forEach((column, x) => {
      const at = (r: number, c: number) => values[r * width + c]!;
      const above = at(row.below, column.below) * (1 - column.share) + at(row.below, column.above) * column.share;
      const under = at(row.above, column.below) * (1 - column.share) + at(row.above, column.above) * column.share;
      enlarged[y * toWidth + x] = above * (1 - row.share) + under * row.share;
    });
  });
  return { height: toHeight, width: toWidth, values: enlarged };
}

/** For each place of the enlarged axis: the two source places around it and the share of the second. */
function taps(from: number, to: number): { below: number; above: number; share: number }[] {
  return Array.from({ length: to }, (_, i) => {
    const at = Math.min(from - 1, Math.max(0, ((i + 0.5) * from) / to - 0.5));
    const below = Math.floor(at);
    return { below, above: Math.min(from - 1, below + 1), share: at - below };
  });
}

/** The map of the predicted (0) or of the true class (1) of a sample. */
export function mapOf(maps: Grid, sample: number, which: 0 | 1): Grid {
  const { height, width, values } = maps;
  const area = height * width;
  const at = (sample * 2 + which) * area;
  return { height, width, values: values.subarray(at, at + area) };
}

/** Where the largest value of a map is, in words, for people who cannot see it. */
export function placeOf({ height, width, values }: Grid): string {
  let best = 0;
  values.forEach((value, i) => {
    if (value > values[best]!) best = i;
  });
  const third = (at: number, extent: number) => Math.min(2, Math.floor(((at + 0.5) / extent) * 3));
  const row = ["top", "middle", "bottom"][third(Math.floor(best / width), height)]!;
  const column = ["left", "centre", "right"][third(best % width, width)]!;
  return row === "middle" && column === "centre" ? "centre" : `${row} ${column}`;
}
