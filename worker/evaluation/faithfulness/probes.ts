import type { Stream } from "../../../shared/plan/random.ts";
import { impute, type Raster } from "./impute.ts";
import { chosen, type Ranking } from "./rankings.ts";

/** Shares of the pixels that ROAD removes. */
export const ROAD_SHARES = [0.2, 0.4, 0.6, 0.8] as const;
/** Shares of the pixels that are deleted or inserted. */
export const CURVE_SHARES = [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1] as const;
/** Deviation of the blur from which insertion starts, in pixels of a picture 224 wide (Petsiuk et al. 2018: 5 there). */
const BLUR_AT_224 = 5;

/** How sure the model is of the explained class, with pixels taken away in the order of a ranking. */
export interface Probed {
  /** ROAD: the most relevant pixels removed first, at ROAD_SHARES. */
  readonly most: readonly number[];
  /** ROAD: the least relevant ones removed first. */
  readonly least: readonly number[];
  /** Deletion (Petsiuk et al. 2018, RISE): the most relevant pixels greyed out, at CURVE_SHARES. */
  readonly deletion: readonly number[];
  /** Insertion: the most relevant pixels put into the blurred picture. */
  readonly insertion: readonly number[];
}

/** Probability of the explained class for each of these pictures, all of the probed picture's extent. */
export type Scorer = (pictures: readonly Float32Array[]) => readonly number[];

/** Probes the rankings of one picture. */
export class Prober {
  private readonly picture: Raster;
  private readonly score: Scorer;
  private readonly grey: Float32Array;
  private readonly blurred: Float32Array;

  constructor(picture: Raster, score: Scorer) {
    this.picture = picture;
    this.score = score;
    this.grey = new Float32Array(picture.values.length);
    this.blurred = blur(picture, Math.max(0.5, (BLUR_AT_224 * picture.width) / 224));
  }

  probe(ranking: Ranking, noise: Stream): Probed {
    const { picture, grey, blurred } = this;
    const leastFirst = ranking.toReversed();
    const scores = this.score([
      ...ROAD_SHARES.map((share) => impute(picture, chosen(ranking, share), noise)),
      ...ROAD_SHARES.map((share) => impute(picture, chosen(leastFirst, share), noise)),
      ...CURVE_SHARES.map((share) => mixed(picture, grey, chosen(ranking, share))),
      ...CURVE_SHARES.map((share) => mixed({ ...picture, values: blurred }, picture.values, chosen(ranking, share))),
    ]);
    const [road, curve] = [ROAD_SHARES.length, CURVE_SHARES.length];
    return {
      most: scores.slice(0, road),
      least: scores.slice(road, 2 * road),
      deletion: scores.slice(2 * road, 2 * road + curve),
      insertion: scores.slice(2 * road + curve),
    };
  }
}

/** ROAD as one number: how much surer the model stays without what is irrelevant than without what is relevant. */
export const roadScore = ({ most, least }: Probed): number => mean(least) - mean(most);

/** Area under a curve over CURVE_SHARES, by trapezoids. */
export const areaUnder = (curve: readonly number[]): number =>
  (curve.reduce((sum, value) => sum + value, 0) - (curve[0]! + curve.at(-1)!) / 2) / (curve.length - 1);

export const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;

/** The picture with another one's pixels where the mask says so. */
function mixed({ values, channels }: Raster, other: Float32Array, mask: Uint8Array): Float32Array {
  return values.map((value, i) => (mask[Math.floor(i / channels)] === 1 ? other[i]! : value));
}

/** Gaussian blur, separable, cut off at twice its deviation (in pixels), borders repeated. */
export function blur({ height, width, channels, values }: Raster, deviation: number): Float32Array {
  const radius = Math.ceil(2 * deviation);
  const raw = Array.from({ length: 2 * radius + 1 }, (_, i) => Math.exp(-((i - radius) ** 2) / (2 * deviation ** 2)));
  const total = raw.reduce((sum, weight) => sum + weight, 0);
  const pass = (source: Float32Array, extent: number, step: number, lines: (line: number) => number) => {
    const result = new Float32Array(source.length);
    for (let line = 0; line < source.length / extent; line++) {
      const start = lines(line);
      for (let at = 0; at < extent; at++) {
        let sum = 0;
        raw.forEach((weight, i) => {
          sum += (weight / total) * source[start + Math.min(extent - 1, Math.max(0, at + i - radius)) * step]!;
        });
        result[start + at * step] = sum;
      }
    }
    return result;
  };
  const row = width * channels;
  const across = pass(values, width, channels, (line) => Math.floor(line / channels) * row + (line % channels));
  return pass(across, height, row, (line) => line);
}
