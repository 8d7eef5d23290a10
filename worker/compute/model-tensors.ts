import type { Tensor } from "@tensorflow/tfjs-core";
import type { LayersModel, layers } from "@tensorflow/tfjs-layers";
import { LockstepError } from "../../shared/errors.ts";
import { isStatistic, type Layout, type TensorRole, type TensorSpec } from "../../shared/model/layout.ts";
import { DOMAIN, Stream } from "../../shared/plan/random.ts";

export type Layer = layers.Layer;

/** The part of tf.layers' LayerVariable that we use. */
export interface Variable {
  readonly originalName: string;
  readonly shape: readonly number[];
  readonly trainable: boolean;
  read(): Tensor;
  write(value: Tensor): void;
}

/** A weight of the model: its variable, the layer that made it, and what it is. */
export interface ModelTensor {
  readonly spec: TensorSpec;
  readonly variable: Variable;
  readonly layer: Layer;
}

const ROLES: Readonly<Record<string, TensorRole>> = {
  kernel: "kernel",
  depthwise_kernel: "kernel",
  pointwise_kernel: "kernel",
  bias: "bias",
  gamma: "gamma",
  beta: "beta",
  moving_mean: "movingMean",
  moving_variance: "movingVariance",
};

/** All layers, those of nested models included, in model order. */
export function layersOf(model: LayersModel): Layer[] {
  return model.layers.flatMap((layer) => {
    const inner = (layer as unknown as { layers?: Layer[] }).layers;
    return inner === undefined ? [layer] : layersOf(layer as unknown as LayersModel);
  });
}

/**
 * Every weight once, in model order: trainable ones and batch statistics.
 * @throws LockstepError LS_MODEL_FILE where weights are frozen, or where two have one name
 */
export function tensorsOf(model: LayersModel): ModelTensor[] {
  const seen = new Set<unknown>();
  const names = new Set<string>();
  const tensors: ModelTensor[] = [];
  for (const layer of layersOf(model)) {
    for (const variable of layer.weights as unknown as Variable[]) {
      if (seen.has(variable)) continue;
      seen.add(variable);
      const short = variable.originalName.split("/").at(-1)!;
      const role = ROLES[short] ?? "other";
      const name = `${layer.name}/${short}`;
      if (!isStatistic({ role }) && !variable.trainable)
        throw refused(`Weight ${name} is frozen, which is not supported.`);
      if (names.has(name)) throw refused(`Two weights of the model are called ${name}.`);
      names.add(name);
      tensors.push({ spec: { name, shape: [...variable.shape], role }, variable, layer });
    }
  }
  return tensors;
}

const refused = (message: string) =>
  new LockstepError("LS_MODEL_FILE", message, {
    hint: "Leave weights trainable, and give every layer a name.",
    exitCode: 2,
  });

type Initializer = { readonly className: string; readonly config: Record<string, unknown> };

/**
 * Initial values of every tensor, from the counter generator keyed by (seed, index of the tensor), following each layer's
 * own initializer in distribution (normal ones are not truncated): the same bits on every machine. Written into the flat
 * weight vector at the layout's offsets.
 * @throws LockstepError LS_MODEL_INITIALIZER where an initializer is not supported.
 */
export function initialWeights(
  tensors: readonly ModelTensor[],
  layout: Layout,
  seed: number,
  into: Float32Array,
): void {
  const slots = new Map([...layout.trainable, ...layout.statistics].map((slot) => [slot.name, slot]));
  tensors.forEach(({ spec, layer }, index) => {
    const slot = slots.get(spec.name)!;
    const values = into.subarray(slot.offset, slot.offset + slot.size);
    fill(values, spec, initializerOf(layer, spec.name), new Stream(seed, DOMAIN.initialWeights, index));
  });
}

/** The configuration of the initializer that a layer gives one of its weights. */
function initializerOf(layer: Layer, name: string): Initializer {
  const short = name.split("/").at(-1)!;
  const camel = short.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());
  const config = layer.getConfig() as Record<string, unknown>;
  // TensorFlow.js says depthwiseInitializer for depthwise_kernel.
  const found = config[`${camel}Initializer`] ?? config[`${camel.replace("Kernel", "")}Initializer`];
  if (typeof found === "object" && found !== null && "className" in found) return found as Initializer;
  throw new LockstepError("LS_MODEL_INITIALIZER", `Layer ${layer.name} does not say how its ${short} starts.`, {
    hint: "Use a layer of TensorFlow.js, or give the layer's config an initializer.",
    exitCode: 2,
  });
}

function fill(
  values: Float32Array,
  { name, shape }: TensorSpec,
  { className, config }: Initializer,
  stream: Stream,
): void {
  const receptive = shape.slice(0, -2).reduce((product, extent) => product * extent, 1);
  const fanIn = shape.length > 1 ? shape.at(-2)! * receptive : shape[0]!;
  const fanOut = shape.length > 1 ? shape.at(-1)! * receptive : shape[0]!;
  const number = (key: string, fallback: number) => (typeof config[key] === "number" ? config[key] : fallback);
  const normal = (mean: number, deviation: number) => {
    for (let i = 0; i < values.length; i++) values[i] = mean + deviation * stream.normal();
  };
  const uniform = (low: number, high: number) => {
    for (let i = 0; i < values.length; i++) values[i] = stream.between(low, high);
  };
  switch (className) {
    case "Zeros":
      return void values.fill(0);
    case "Ones":
      return void values.fill(1);
    case "Constant":
      return void values.fill(number("value", 0));
    case "RandomNormal":
    case "TruncatedNormal":
      return normal(number("mean", 0), number("stddev", 0.05));
    case "RandomUniform":
      return uniform(number("minval", -0.05), number("maxval", 0.05));
    case "HeNormal":
    case "HeUniform":
    case "GlorotNormal":
    case "GlorotUniform":
    case "LeCunNormal":
    case "LeCunUniform":
    case "VarianceScaling": {
      const { mode, scale, uniformly } = scalingOf(className, config);
      const fan = mode === "fanIn" ? fanIn : mode === "fanOut" ? fanOut : (fanIn + fanOut) / 2;
      const variance = scale / Math.max(1, fan);
      return uniformly ? uniform(-Math.sqrt(3 * variance), Math.sqrt(3 * variance)) : normal(0, Math.sqrt(variance));
    }
    default:
      throw new LockstepError("LS_MODEL_INITIALIZER", `The initializer ${className} of ${name} is not supported.`, {
        hint: "Use zeros, ones, constant, random normal or uniform, or one of the He, Glorot and LeCun initializers.",
        exitCode: 2,
      });
  }
}

function scalingOf(className: string, config: Record<string, unknown>) {
  if (className.startsWith("He")) return { mode: "fanIn", scale: 2, uniformly: className.endsWith("Uniform") };
  if (className.startsWith("LeCun")) return { mode: "fanIn", scale: 1, uniformly: className.endsWith("Uniform") };
  if (className.startsWith("Glorot")) return { mode: "fanAvg", scale: 1, uniformly: className.endsWith("Uniform") };
  return {
    mode: String(config.mode ?? "fanIn"),
    scale: Number(config.scale ?? 1),
    uniformly: config.distribution === "uniform",
  };
}
