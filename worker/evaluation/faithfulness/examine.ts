import type { Dataset } from "../../../shared/data/dataset.ts";
import { DOMAIN, Stream } from "../../../shared/plan/random.ts";
import type { EvaluationConfig } from "../../compute/evaluate.ts";
import type { Prediction, Predictor } from "../../compute/predictor.ts";
import { Augmenter } from "../../loader/augment.ts";
import type { Grid } from "../maps.ts";
import { type CascadeStep, cascade } from "./cascade.ts";
import { type Probed, probe } from "./probes.ts";
import { byCentre, byChance, byMap } from "./rankings.ts";

/** What ranks pixels: the map, or one of the two baselines that a useful map must beat. */
export const RANKINGS = ["map", "random", "centre"] as const;
export type RankingName = (typeof RANKINGS)[number];

export interface ExaminedImage {
  /** Place in the test set. */
  readonly image: number;
  /** The class that the model predicts, whose map is examined. */
  readonly explained: number;
  readonly rankings: Readonly<Record<RankingName, Probed>>;
}

/** Pictures in one forward pass. */
const BATCH = 30;

/** Asks a model whether its maps are true. */
export class Examiner {
  private readonly predictor: Predictor;
  private readonly dataset: Dataset;
  private readonly recipe: EvaluationConfig["recipe"];
  private readonly augmenter: Augmenter;
  private readonly side: number;

  constructor(predictor: Predictor, dataset: Dataset, recipe: EvaluationConfig["recipe"]) {
    this.predictor = predictor;
    this.dataset = dataset;
    this.recipe = recipe;
    this.augmenter = new Augmenter(recipe.augmentation, dataset.shape, recipe.seed);
    this.side = recipe.resolutions.reduce((most, resolution) => Math.max(most, resolution.side), 0);
  }

  /** Takes pixels away and looks how sure the model stays; the same bits in every process. */
  examine(image: number): ExaminedImage {
    const { side } = this;
    const { channels } = this.dataset.shape;
    const values = this.picture(image);
    const { logits, maps } = this.predict([values], this.recipe.flipAveraging);
    const explained = largest(logits);
    const map = this.mapsOf([values], maps, [explained])[0]!;
    const raster = { height: side, width: side, channels, values };
    const score = (pictures: readonly Float32Array[]) => this.probabilities(pictures, explained);
    const noise = () => new Stream(this.recipe.seed, DOMAIN.evaluation, 4, image);
    const chance = new Stream(this.recipe.seed, DOMAIN.evaluation, 5, image);
    return {
      image,
      explained,
      rankings: {
        map: probe(raster, byMap(map, side, side), noise(), score),
        random: probe(raster, byChance(side * side, chance), noise(), score),
        centre: probe(raster, byCentre(side, side), noise(), score),
      },
    };
  }

  /** Shuffles the model's weights, which is unusable afterwards. */
  cascade(images: readonly number[]): CascadeStep[] {
    const { predictor } = this;
    const pictures = images.map((image) => this.picture(image));
    const { logits } = this.predict(pictures, false);
    const classes = this.recipe.data.classes;
    const explained = pictures.map((_, i) => largest(logits.subarray(i * classes, (i + 1) * classes)));
    return cascade(
      {
        layers: predictor.weightedLayers,
        shuffle: (layer, draw) => predictor.alter(layer, draw),
        maps: () =>
          this.mapsOf(pictures, this.predict(pictures, false).maps, explained, false).map((grid) => grid.values),
      },
      this.recipe.seed,
    );
  }

  private picture(image: number): Float32Array {
    const { channels, height, width } = this.dataset.shape;
    const raw = new Uint8Array(channels * height * width);
    const values = new Float32Array(this.side * this.side * channels);
    this.dataset.test.read(image, raw);
    this.augmenter.plain(raw, this.side, values);
    return values;
  }

  private predict(pictures: readonly Float32Array[], flip: boolean): Prediction {
    return this.predictor.run(joined(pictures), this.shapeOf(pictures.length), flip);
  }

  private shapeOf(count: number) {
    return [count, this.side, this.side, this.dataset.shape.channels] as const;
  }

  /** Probability of one class for each picture, without flip averaging. */
  private probabilities(pictures: readonly Float32Array[], wanted: number): number[] {
    const classes = this.recipe.data.classes;
    const scores: number[] = [];
    for (let from = 0; from < pictures.length; from += BATCH) {
      const part = pictures.slice(from, from + BATCH);
      const { logits } = this.predict(part, false);
      scores.push(...part.map((_, i) => probability(logits.subarray(i * classes, (i + 1) * classes), wanted)));
    }
    return scores;
  }

  /** A map of one class for each picture, out of maps of all classes or by gradients. */
  private mapsOf(
    pictures: readonly Float32Array[],
    all: Prediction["maps"],
    wanted: readonly number[],
    flip = this.recipe.flipAveraging,
  ): Grid[] {
    const classes = this.recipe.data.classes;
    if (all !== null) {
      const { height, width, values } = all;
      const area = height * width;
      return wanted.map((label, i) => ({
        height,
        width,
        values: Float32Array.from({ length: area }, (_, p) => values[(i * area + p) * classes + label]!),
      }));
    }
    const shape = this.shapeOf(pictures.length);
    const { height, width, values } = this.predictor.gradientMaps(
      joined(pictures),
      shape,
      flip,
      Int32Array.from(wanted),
    )!;
    const area = height * width;
    return wanted.map((_, i) => ({ height, width, values: values.slice(i * area, (i + 1) * area) }));
  }
}

function joined(pictures: readonly Float32Array[]): Float32Array {
  const size = pictures[0]!.length;
  const all = new Float32Array(pictures.length * size);
  pictures.forEach((picture, i) => {
    all.set(picture, i * size);
  });
  return all;
}

const largest = (row: Float32Array) => row.reduce((best, value, k) => (value > row[best]! ? k : best), 0);

/** Softmax of one class. */
function probability(logits: Float32Array, wanted: number): number {
  const most = Math.max(...logits);
  return Math.exp(logits[wanted]! - most) / logits.reduce((sum, logit) => sum + Math.exp(logit - most), 0);
}
