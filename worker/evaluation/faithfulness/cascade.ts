import { DOMAIN, Stream } from "../../../shared/plan/random.ts";
import { mean } from "./probes.ts";
import { rankCorrelation } from "./rankings.ts";

/** A model whose weights can be shuffled, layer by layer. */
export interface Shuffled {
  /** Names of the layers with weights, the output's first. */
  readonly layers: readonly string[];
  /** Shuffles a layer's weights for good. */
  shuffle(layer: string, draw: (values: Float32Array) => void): void;
  /** A map for each of the pictures, always of the classes that the trained model predicted. */
  maps(): readonly Float32Array[];
}

export interface CascadeStep {
  readonly layer: string;
  /** Rank correlation of each picture's map with that of the trained model. */
  readonly correlations: readonly number[];
}

/** Mean rank correlation that maps may keep when all weights are shuffled. */
export const INDEPENDENT_OF_WEIGHTS = 0.5;

/**
 * The cascading randomisation of Adebayo et al. 2018 (Sanity Checks for Saliency Maps): from the output to the input, layer
 * after layer loses what it has learned, here by a shuffle of its weights, which keeps their distribution. Maps that tell
 * of the model must change; maps that stay, as those of an edge detector, tell of the picture alone.
 */
export function cascade(model: Shuffled, seed: number): CascadeStep[] {
  const trained = model.maps();
  return model.layers.map((layer, index) => {
    model.shuffle(layer, (values) => shuffleInPlace(values, new Stream(seed, DOMAIN.evaluation, 3, index)));
    const now = model.maps();
    return { layer, correlations: now.map((map, i) => rankCorrelation(trained[i]!, map)) };
  });
}

/** Whether maps depend on what the model has learned. */
export const dependsOnWeights = (steps: readonly CascadeStep[]): boolean =>
  steps.length > 0 && mean(steps.at(-1)!.correlations) < INDEPENDENT_OF_WEIGHTS;

function shuffleInPlace(values: Float32Array, stream: Stream): void {
  const order = stream.shuffle(Int32Array.from(values.keys()));
  const before = values.slice();
  order.forEach((from, to) => {
    values[to] = before[from]!;
  });
}
