import type { Dataset } from "../../../shared/data/dataset.ts";
import { DOMAIN, Stream } from "../../../shared/plan/random.ts";
import { type EvaluationConfig, evaluationSide, largestOfRows } from "../../compute/evaluate.ts";
import type { Prediction, Predictor } from "../../compute/predictor.ts";
import { Augmenter } from "../../loader/augment.ts";
import type { Grid } from "../maps.ts";
import { softmax } from "../metrics/probabilities.ts";
import { type CascadeStep, cascade } from "./cascade.ts";
import { type Probed, Prober } from "./probes.ts";
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
    this.side = evaluationSide(recipe);
  }

  /** Takes pixels away and looks how sure the model stays; the same bits in every process. */
  examine(image: number): ExaminedImage {
    const { side } = this;
    const { seed, flipAveraging } = this.recipe;
    const values = this.picture(image);
    const flipped = this.predict([values], flipAveraging);
    const wanted = largestOfRows(flipped.logits, this.recipe.data.classes);
    const [explained] = wanted as unknown as [number];
    const map = this.mapsOf([values], flipped, wanted, flipAveraging)[0]!;
    const picture = { height: side, width: side, channels: this.dataset.shape.channels, values };
    const prober = new Prober(picture, (pictures) => this.probabilities(pictures, explained));
    const noise = () => new Stream(seed, DOMAIN.evaluation, 4, image);
    const chance = new Stream(seed, DOMAIN.evaluation, 5, image);
    return {
      image,
      explained,
      rankings: {
        map: prober.probe(byMap(map, side, side), noise()),
        random: prober.probe(byChance(side * side, chance), noise()),
        centre: prober.probe(byCentre(side, side), noise()),
      },
    };
  }

  /** Shuffles the model's weights, which is unusable afterwards. */
  cascade(images: readonly number[]): CascadeStep[] {
    const { predictor, recipe } = this;
    const pictures = images.map((image) => this.picture(image));
    const explained = largestOfRows(this.predict(pictures, false).logits, recipe.data.classes);
    const maps = () =>
      this.mapsOf(pictures, this.predict(pictures, false), explained, false).map(({ values }) => values);
    const shuffle = (layer: string, draw: (values: Float32Array) => void) => predictor.alter(layer, draw);
    return cascade({ layers: predictor.weightedLayers, shuffle, maps }, recipe.seed);
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
    return this.predictor.run(joined(pictures), this.shapeOf(pictures), flip);
  }

  private shapeOf({ length }: readonly Float32Array[]) {
    return [length, this.side, this.side, this.dataset.shape.channels] as const;
  }

  /** Probability of one class for each picture, without flip averaging. */
  private probabilities(pictures: readonly Float32Array[], wanted: number): number[] {
    const classes = this.recipe.data.classes;
    const scores: number[] = [];
    for (let from = 0; from < pictures.length; from += BATCH) {
      const part = pictures.slice(from, from + BATCH);
      const all = softmax({ samples: part.length, classes, logits: this.predict(part, false).logits });
      scores.push(...part.map((_, i) => all[i * classes + wanted]!));
    }
    return scores;
  }

  /** A map of one class for each picture of a prediction. */
  private mapsOf(pictures: readonly Float32Array[], of: Prediction, wanted: Int32Array, flip: boolean): Grid[] {
    const shape = this.shapeOf(pictures);
    const { height, width, values } = this.predictor.mapsOfClasses(of, joined(pictures), shape, flip, wanted)!;
    const area = height * width;
    return pictures.map((_, i) => ({ height, width, values: values.slice(i * area, (i + 1) * area) }));
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
