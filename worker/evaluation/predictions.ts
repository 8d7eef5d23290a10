import { LockstepError } from "../../shared/errors.ts";
import { encodeHeader, headerLength, parseHeader, type TensorInfo } from "../../shared/model/safetensors.ts";

/** Name of the predictions in a report's directory. */
export const PREDICTIONS_FILE = "predictions.safetensors";

/** What the model says about every test image, in the order of the test set. */
export interface Predictions {
  readonly samples: number;
  readonly classes: number;
  /** float32 [samples, classes] */
  readonly logits: Float32Array;
  /** float32 [samples, classes] without flip averaging; null where the run does not average. */
  readonly plainLogits: Float32Array | null;
  /** int32 [samples], counted from 0 */
  readonly labels: Int32Array;
  /** Class activation maps; null for models that have none. */
  readonly maps: ClassMaps | null;
}

/** float32 [samples, 2, height, width]: for every image the map of the predicted class, then of the true class. */
export interface ClassMaps {
  readonly height: number;
  readonly width: number;
  readonly values: Float32Array;
}

/** Predictions for the test images [from, from + samples), as a worker sends them. */
export interface PredictedBatch {
  readonly from: number;
  readonly samples: number;
  readonly classes: number;
  /** float32 [samples, classes] */
  readonly logits: Float32Array;
  /** The same without flip averaging; empty where the run does not average. */
  readonly plainLogits: Float32Array;
  /** 0 without maps. */
  readonly mapHeight: number;
  readonly mapWidth: number;
  /** float32 [samples, 2, mapHeight, mapWidth] */
  readonly maps: Float32Array;
}

/**
 * Puts batches together by their place in the test set, whoever predicted them and in whatever order they came. A batch
 * that came twice counts once.
 * @throws LockstepError LS_EVALUATION_BATCHES where they do not cover the test set or do not fit together.
 */
export function mergePredictions(batches: Iterable<PredictedBatch>, labels: ArrayLike<number>): Predictions {
  const samples = labels.length;
  const covered = new Uint8Array(samples);
  let merged: Predictions | null = null;
  for (const batch of batches) {
    merged ??= emptyLike(batch, labels);
    checkBatch(batch, merged);
    const { from, mapHeight, mapWidth } = batch;
    merged.logits.set(batch.logits, from * batch.classes);
    merged.plainLogits?.set(batch.plainLogits, from * batch.classes);
    merged.maps?.values.set(batch.maps, from * 2 * mapHeight * mapWidth);
    covered.fill(1, from, from + batch.samples);
  }
  const missing = covered.indexOf(0);
  if (merged === null || missing >= 0) throw misfit(`test image ${Math.max(0, missing)} has no prediction`);
  return merged;
}

function emptyLike(
  { classes, plainLogits, mapHeight, mapWidth }: PredictedBatch,
  labels: ArrayLike<number>,
): Predictions {
  const samples = labels.length;
  const area = mapHeight * mapWidth;
  const values = new Float32Array(samples * 2 * area);
  return {
    samples,
    classes,
    logits: new Float32Array(samples * classes),
    plainLogits: plainLogits.length === 0 ? null : new Float32Array(samples * classes),
    labels: Int32Array.from(labels),
    maps: area === 0 ? null : { height: mapHeight, width: mapWidth, values },
  };
}

function checkBatch(batch: PredictedBatch, { samples, classes, plainLogits, maps }: Predictions): void {
  const { from, mapHeight, mapWidth } = batch;
  const name = `the batch of images ${from} to ${from + batch.samples - 1}`;
  const inside = Number.isInteger(from) && from >= 0 && batch.samples > 0 && from + batch.samples <= samples;
  if (!inside) throw misfit(`${name} lies outside of the ${samples} test images`);
  const area = (maps?.height ?? 0) * (maps?.width ?? 0);
  const alike = batch.classes === classes && mapHeight === (maps?.height ?? 0) && mapWidth === (maps?.width ?? 0);
  const logits = batch.samples * classes;
  const plain = batch.plainLogits.length === (plainLogits === null ? 0 : logits);
  const whole = plain && batch.logits.length === logits && batch.maps.length === batch.samples * 2 * area;
  if (!alike || !whole) throw misfit(`${name} has other shapes than the first`);
}

const misfit = (what: string) =>
  new LockstepError("LS_EVALUATION_BATCHES", `The predictions do not make a whole: ${what}.`, {
    hint: "Evaluate again with `npx lockstep evaluate`.",
  });

/**
 * The file form: `logits` float32 [samples, classes], `labels` int32 [samples], with flip averaging `plain_logits` like
 * `logits` and, where there are maps, `maps` float32
 * [samples, 2, height, width]. The same predictions are the same bytes.
 */
export function encodePredictions({ samples, classes, logits, plainLogits, labels, maps }: Predictions): Uint8Array {
  const tensors: (TensorInfo & { readonly values: Float32Array | Int32Array })[] = [
    { name: "logits", dtype: "F32", shape: [samples, classes], values: logits },
    { name: "labels", dtype: "I32", shape: [samples], values: labels },
  ];
  if (plainLogits !== null) {
    tensors.push({ name: "plain_logits", dtype: "F32", shape: [samples, classes], values: plainLogits });
  }
  if (maps !== null) {
    tensors.push({ name: "maps", dtype: "F32", shape: [samples, 2, maps.height, maps.width], values: maps.values });
  }
  const header = encodeHeader(tensors, { format: "lockstep-predictions-1" });
  const file = new Uint8Array(tensors.reduce((sum, { values }) => sum + values.byteLength, header.length));
  file.set(header);
  let at = header.length;
  for (const { values } of tensors) {
    file.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), at);
    at += values.byteLength;
  }
  return file;
}

/**
 * Reads the file form.
 * @throws LockstepError LS_SAFETENSORS or LS_EVALUATION_FILE where it is something else.
 */
export function decodePredictions(bytes: Uint8Array, file = PREDICTIONS_FILE): Predictions {
  const start = 8 + headerLength(bytes, bytes.length, file);
  const { tensors } = parseHeader(bytes.subarray(8, start), bytes.length - start, file);
  const find = (name: string, dtype: string, extents: number) => {
    const tensor = tensors.find((known) => known.name === name);
    if (tensor === undefined) return null;
    if (tensor.dtype !== dtype || tensor.shape.length !== extents) throw wrong(file, `${name} have another shape`);
    // A copy starts at an address that floats may have.
    return {
      shape: tensor.shape,
      buffer: new Uint8Array(bytes.subarray(start + tensor.from, start + tensor.to)).buffer,
    };
  };
  const logits = find("logits", "F32", 2);
  const plain = find("plain_logits", "F32", 2);
  const labels = find("labels", "I32", 1);
  const maps = find("maps", "F32", 4);
  if (logits === null || labels === null) throw wrong(file, `${logits === null ? "logits" : "labels"} are missing`);
  const [samples, classes] = logits.shape as [number, number];
  if (labels.shape[0] !== samples) throw wrong(file, `${labels.shape[0]} labels for ${samples} images`);
  const classOf = new Int32Array(labels.buffer);
  if (classOf.some((label) => label < 0 || label >= classes)) throw wrong(file, "a label lies outside of the classes");
  const plainLogits = plain === null ? null : new Float32Array(plain.buffer);
  if (plainLogits !== null && plainLogits.length !== samples * classes)
    throw wrong(file, "plain_logits have another shape");
  const common = { samples, classes, logits: new Float32Array(logits.buffer), plainLogits, labels: classOf };
  if (maps === null) return { ...common, maps: null };
  const [count, pair, height, width] = maps.shape as [number, number, number, number];
  if (count !== samples || pair !== 2) throw wrong(file, "maps have another shape");
  return { ...common, maps: { height, width, values: new Float32Array(maps.buffer) } };
}

const wrong = (file: string, what: string) =>
  new LockstepError("LS_EVALUATION_FILE", `${file} does not hold predictions: ${what}.`, {
    hint: "Evaluate again with `npx lockstep evaluate`.",
  });
