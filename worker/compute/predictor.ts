import type { Tensor, Tensor2D, Tensor4D } from "@tensorflow/tfjs-core";
import type { LayersModel, SymbolicTensor } from "@tensorflow/tfjs-layers";
import type { Layout } from "../../shared/model/layout.ts";
import { GradCam } from "./grad-cam.ts";
import { layersOf, tensorsOf } from "./model-tensors.ts";
import type { TensorFlow } from "./tensorflow.ts";

export interface Prediction {
  /** float32 [samples, classes] */
  readonly logits: Float32Array;
  /** float32 [samples, classes]: without flip averaging. */
  readonly plainLogits: Float32Array;
  /**
   * Class activation maps of every class, float32 [samples, mapHeight, mapWidth, classes]; null for models that do not
   * end in global average pooling and one dense layer.
   */
  readonly maps: { readonly values: Float32Array; readonly height: number; readonly width: number } | null;
}

/** How a model's maps are made: exactly, by gradients, or not at all. */
export type MapMethod = "cam" | "grad-cam" | null;

/** Runs the model as its users will: moving statistics, no dropout, weights from a flat vector. */
export class Predictor {
  private readonly tf: TensorFlow;
  private readonly model: LayersModel;
  /** Images to [features before pooling, logits], where the model ends in pooling and a dense layer. */
  private readonly withFeatures: LayersModel | null;
  private readonly gradients: GradCam | null;

  constructor(tf: TensorFlow, model: LayersModel, layout: Layout, weights: Float32Array) {
    this.tf = tf;
    this.model = model;
    const slots = new Map([...layout.trainable, ...layout.statistics].map((slot) => [slot.name, slot]));
    for (const { spec, variable } of tensorsOf(model)) {
      const { offset, size } = slots.get(spec.name)!;
      tf.tidy(() => variable.write(tf.tensor(weights.slice(offset, offset + size), [...spec.shape])));
    }
    this.withFeatures = featuresOf(tf, model);
    this.gradients = this.withFeatures === null ? GradCam.of(tf, model) : null;
  }

  get hasExactMaps(): boolean {
    return this.withFeatures !== null;
  }

  get mapMethod(): MapMethod {
    return methodOf(this.withFeatures, this.gradients);
  }

  /**
   * The map of one class of each sample, float32 [samples, height, width]; null where there are none.
   * @param prediction of the same images with the same flip averaging
   */
  mapsOfClasses(
    { maps, logits }: Prediction,
    images: Float32Array,
    shape: readonly [number, number, number, number],
    flipAveraging: boolean,
    wanted: Int32Array,
  ): Prediction["maps"] {
    if (maps === null) return this.gradientMaps(images, shape, flipAveraging, wanted);
    const { height, width, values } = maps;
    const [area, classes] = [height * width, logits.length / shape[0]];
    const chosen = new Float32Array(wanted.length * area);
    for (let at = 0; at < chosen.length; at++) chosen[at] = values[at * classes + wanted[Math.floor(at / area)]!]!;
    return { values: chosen, height, width };
  }

  /**
   * Maps of one class of each sample by gradients, for models without exact ones.
   * @returns float32 [samples, height, width], or null for a model in which no layer has places
   */
  gradientMaps(
    images: Float32Array,
    shape: readonly [number, number, number, number],
    flipAveraging: boolean,
    classes: Int32Array,
  ): Prediction["maps"] {
    const { tf, gradients } = this;
    if (gradients === null) return null;
    let maps: Prediction["maps"] = null;
    tf.tidy(() => {
      const x = tf.tensor4d(images, [...shape] as [number, number, number, number]);
      const straight = gradients.maps(x, classes);
      const [, height, width] = straight.shape;
      const mean = flipAveraging
        ? straight.add(gradients.maps(x.reverse(2) as Tensor4D, classes).reverse(2)).mul(0.5)
        : straight;
      maps = { values: mean.dataSync() as Float32Array, height, width };
    });
    return maps;
  }

  /**
   * @param images float32 [samples, height, width, channels], normalised
   * @param flipAveraging averages logits and (mirrored back) maps with those of the mirror images
   */
  run(images: Float32Array, shape: readonly [number, number, number, number], flipAveraging: boolean): Prediction {
    const { tf } = this;
    let prediction: Prediction | null = null;
    tf.tidy(() => {
      const x = tf.tensor4d(images, [...shape] as [number, number, number, number]);
      const straight = this.forward(x);
      if (!flipAveraging) {
        prediction = this.read(straight, straight.logits);
        return;
      }
      const mirrored = this.forward(x.reverse(2) as Tensor4D);
      const logits = straight.logits.add(mirrored.logits).mul(0.5) as Tensor2D;
      const maps = straight.maps === null ? null : (straight.maps.add(mirrored.maps!.reverse(2)).mul(0.5) as Tensor4D);
      prediction = this.read({ logits, maps }, straight.logits);
    });
    return prediction!;
  }

  /** As `run`, without maps: float32 [samples, classes]. */
  logits(images: Float32Array, shape: readonly [number, number, number, number], flipAveraging: boolean): Float32Array {
    const { tf, model } = this;
    let logits = new Float32Array(0);
    tf.tidy(() => {
      const x = tf.tensor4d(images, [...shape] as [number, number, number, number]);
      const straight = model.predictOnBatch(x) as Tensor2D;
      const mean = flipAveraging ? straight.add(model.predictOnBatch(x.reverse(2)) as Tensor2D).mul(0.5) : straight;
      logits = mean.dataSync() as Float32Array<ArrayBuffer>;
    });
    return logits;
  }

  /** Names of the layers with weights, the output's first. */
  get weightedLayers(): readonly string[] {
    return layersOf(this.model)
      .filter((layer) => layer.weights.length > 0)
      .map(({ name }) => name)
      .reverse();
  }

  /** Changes a layer's weights for good, each tensor by itself. */
  alter(name: string, change: (values: Float32Array) => void): void {
    const { tf } = this;
    for (const { variable, layer } of tensorsOf(this.model)) {
      if (layer.name !== name) continue;
      tf.tidy(() => {
        const values = variable.read().dataSync().slice() as Float32Array;
        change(values);
        variable.write(tf.tensor(values, [...variable.shape]));
      });
    }
  }

  private forward(x: Tensor4D): { logits: Tensor2D; maps: Tensor4D | null } {
    if (this.withFeatures === null) return { logits: this.model.predictOnBatch(x) as Tensor2D, maps: null };
    const [features, logits] = this.withFeatures.predictOnBatch(x) as [Tensor4D, Tensor2D];
    const dense = layersOf(this.model).at(-1)!;
    const [kernel, bias] = dense.getWeights() as [Tensor2D, Tensor | undefined];
    const [samples, height, width, channels] = features.shape;
    // The logit is the mean of this map over its positions: pooling and the dense layer commute.
    const flat = features.reshape([samples * height * width, channels]).matMul(kernel);
    const maps = (bias === undefined ? flat : flat.add(bias)).reshape([samples, height, width, kernel.shape[1]]);
    return { logits, maps: maps as Tensor4D };
  }

  private read({ logits, maps }: { logits: Tensor2D; maps: Tensor4D | null }, plain: Tensor2D): Prediction {
    return {
      logits: logits.dataSync() as Float32Array,
      plainLogits: plain.dataSync() as Float32Array,
      maps:
        maps === null ? null : { values: maps.dataSync() as Float32Array, height: maps.shape[1], width: maps.shape[2] },
    };
  }
}

/** How maps of such a model are made. */
export const mapMethodOf = (tf: TensorFlow, model: LayersModel): MapMethod =>
  methodOf(featuresOf(tf, model), GradCam.of(tf, model));

const methodOf = (withFeatures: LayersModel | null, gradients: GradCam | null): MapMethod =>
  withFeatures !== null ? "cam" : gradients === null ? null : "grad-cam";

/** The model with the input of its global average pooling as a second output, or null where it has another end. */
function featuresOf(tf: TensorFlow, model: LayersModel): LayersModel | null {
  const names = model.layers.map((layer) => layer.getClassName());
  const tail = model.layers.at(-1);
  const rest = names.slice(0, -1).filter((name) => name !== "Dropout");
  if (tail?.getClassName() !== "Dense" || rest.at(-1) !== "GlobalAveragePooling2D") return null;
  const activation = (tail.getConfig() as { activation?: string }).activation ?? "linear";
  if (activation !== "linear") return null;
  const pooling = model.layers.findLast((layer) => layer.getClassName() === "GlobalAveragePooling2D")!;
  return tf.model({ inputs: model.inputs, outputs: [pooling.input as SymbolicTensor, model.outputs[0]!] });
}
