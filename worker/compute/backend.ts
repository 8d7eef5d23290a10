import type { Tensor } from "@tensorflow/tfjs-core";
import type { TensorFlow } from "./tensorflow.ts";

/** An attribute of an operation, as the native backend takes it. */
export interface OpAttribute {
  readonly name: string;
  /** One of the add-on's TF_ATTR_* numbers. */
  readonly type: number;
  readonly value: unknown;
}

/** A tensor on the native side: its handle, shape and TensorFlow's number of its type. */
export interface NativeTensor {
  readonly id: number;
  readonly shape: readonly number[];
  readonly dtype: number;
}

type Constant =
  | `TF_ATTR_${"STRING" | "INT" | "FLOAT" | "BOOL" | "TYPE" | "SHAPE"}`
  | `TF_${"FLOAT" | "INT32" | "BOOL"}`;

/** The compiled add-on, as far as we call it ourselves. */
export interface Binding extends Readonly<Record<Constant, number>> {
  /** Operation, attributes, ids of its inputs, number of its outputs. */
  executeOp(name: string, attributes: readonly OpAttribute[], inputs: number[], outputs: number): NativeTensor[];
  tensorDataSync(id: number): Float32Array | Int32Array | Uint8Array;
  deleteTensor(id: number): void;
  /** Opens a session of the graph in a SavedModel's directory; tags separated by commas. */
  loadSavedModel(directory: string, tags: string): number;
  deleteSavedModel(session: number): void;
  /** Names are `node:output`, separated by commas. */
  runSavedModel(session: number, inputs: number[], inputNames: string, outputNames: string): NativeTensor[];
}

/** The part of TensorFlow.js' native backend that runs TensorFlow's operations. */
export interface NativeBackend {
  readonly binding: Binding;
  executeSingleOutput(name: string, attributes: OpAttribute[], inputs: Tensor[]): Tensor;
  executeMultipleOutputs(name: string, attributes: OpAttribute[], inputs: Tensor[], outputs: number): Tensor[];
  /** Handles of tensors; values that wait in JavaScript are bound now. */
  getInputTensorIds(tensors: readonly Tensor[]): number[];
  readSync(dataId: object): Float32Array | Int32Array | Uint8Array;
}

export const backendOf = (tf: TensorFlow): NativeBackend => tf.backend() as unknown as NativeBackend;
