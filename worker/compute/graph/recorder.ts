import type { Tensor } from "@tensorflow/tfjs-core";
import { LockstepError } from "../../../shared/errors.ts";
import { backendOf, type NativeBackend, type OpAttribute } from "../backend.ts";
import type { TensorFlow } from "../tensorflow.ts";

/** One output of a node, `name:index`. */
export type Ref = `${string}:${number}`;

/** One operation of a recorded graph. */
export interface GraphNode {
  readonly name: string;
  readonly op: string;
  readonly attributes: readonly OpAttribute[];
  readonly inputs: readonly Ref[];
  /** Names of nodes that it runs after without reading from them. */
  readonly after?: readonly string[];
  /** Of a Const: its contents. */
  readonly constant?: Constant;
}

export interface Constant {
  /** TensorFlow's number of the type. */
  readonly dtype: number;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

/**
 * Notes the operations that TensorFlow.js runs through the native backend, while it runs them: inputs become
 * placeholders, results are known by the tensor that holds them, everything else is a constant. All shapes are fixed.
 */
export class Recorder {
  readonly nodes: GraphNode[] = [];
  private readonly backend: NativeBackend;
  /** By the identity of a tensor's data, which clones share. */
  private readonly known = new Map<object, Ref>();
  /** Results of operations and placeholders: values that differ from one micro-batch to the next. */
  private readonly varying = new Set<object>();

  constructor(tf: TensorFlow) {
    this.backend = backendOf(tf);
  }

  /** Declares a tensor that is fed at every run. */
  input(name: string, tensor: Tensor): Ref {
    const { binding } = this.backend;
    const attributes = [
      { name: "dtype", type: binding.TF_ATTR_TYPE, value: this.dtypeOf(tensor) },
      { name: "shape", type: binding.TF_ATTR_SHAPE, value: [...tensor.shape] },
    ];
    this.nodes.push({ name, op: "Placeholder", attributes, inputs: [] });
    return this.know(tensor, `${name}:0`);
  }

  /** The node output that a tensor stands for, to be fetched; what is fed is fetched through a node of its own. */
  output(tensor: Tensor): Ref {
    const ref = this.refOf(tensor);
    const from = this.nodes.find(({ name }) => name === nodeOf(ref))!;
    if (from.op !== "Placeholder") return ref;
    const { binding } = this.backend;
    const attributes = [{ name: "T", type: binding.TF_ATTR_TYPE, value: this.dtypeOf(tensor) }];
    return this.add("Identity", attributes, [ref]);
  }

  /**
   * Records while `run` runs.
   * @throws LockstepError LS_GRAPH where the model looks at values in JavaScript, or draws numbers there: they would be those
   * of one micro-batch
   */
  record<Result>(run: () => Result): Result {
    const { backend } = this;
    const single = backend.executeSingleOutput.bind(backend);
    const multiple = backend.executeMultipleOutputs.bind(backend);
    const read = backend.readSync.bind(backend);
    // Own properties of the backend hide its class's methods until they are taken away again.
    Object.assign(backend, {
      executeSingleOutput: (name: string, attributes: OpAttribute[], inputs: Tensor[]) => {
        const refs = inputs.map((input) => this.refOf(input));
        const result = single(name, attributes, inputs);
        this.know(result, this.add(name, attributes, refs));
        return result;
      },
      executeMultipleOutputs: (name: string, attributes: OpAttribute[], inputs: Tensor[], outputs: number) => {
        const refs = inputs.map((input) => this.refOf(input));
        const results = multiple(name, attributes, inputs, outputs);
        const node = nodeOf(this.add(name, attributes, refs));
        for (const [index, result] of results.entries()) this.know(result, `${node}:${index}`);
        return results;
      },
      readSync: (dataId: object) => {
        if (this.varying.has(dataId)) throw unrecordable("it looks at values while it computes");
        return read(dataId);
      },
    });
    // TensorFlow.js draws in JavaScript: the numbers would become constants.
    const { random } = Math;
    Math.random = () => {
      throw unrecordable("it draws random numbers of its own");
    };
    try {
      return run();
    } finally {
      Math.random = random;
      for (const method of ["executeSingleOutput", "executeMultipleOutputs", "readSync"]) {
        Reflect.deleteProperty(backend, method);
      }
    }
  }

  private refOf(tensor: Tensor): Ref {
    const ref = this.known.get(tensor.dataId);
    if (ref !== undefined) return ref;
    const values = this.backend.readSync(tensor.dataId);
    const constant = {
      dtype: this.dtypeOf(tensor),
      shape: [...tensor.shape],
      bytes: new Uint8Array(values.buffer, values.byteOffset, values.byteLength).slice(),
    };
    const name = `Const_${this.nodes.length}`;
    this.nodes.push({ name, op: "Const", attributes: [], inputs: [], constant });
    this.known.set(tensor.dataId, `${name}:0`);
    return `${name}:0`;
  }

  private know(tensor: Tensor, ref: Ref): Ref {
    this.known.set(tensor.dataId, ref);
    this.varying.add(tensor.dataId);
    return ref;
  }

  private add(op: string, attributes: readonly OpAttribute[], inputs: readonly Ref[]): Ref {
    const name = `${op}_${this.nodes.length}`;
    this.nodes.push({ name, op, attributes: attributes.map((attribute) => ({ ...attribute })), inputs });
    return `${name}:0`;
  }

  private dtypeOf(tensor: Tensor): number {
    const { binding } = this.backend;
    const types: Partial<Record<string, number>> = {
      float32: binding.TF_FLOAT,
      int32: binding.TF_INT32,
      bool: binding.TF_BOOL,
    };
    const dtype = types[tensor.dtype];
    if (dtype === undefined) throw unrecordable(`it computes with ${tensor.dtype}`);
    return dtype;
  }
}

/** Name of the node of an output. */
export const nodeOf = (ref: Ref): string => ref.slice(0, ref.lastIndexOf(":"));

const unrecordable = (why: string) =>
  new LockstepError("LS_GRAPH", `The model cannot be recorded as a graph: ${why}.`, {
    hint: "Use --execution eager, or layers that compute with TensorFlow.js operations only; dropout is drawn for them.",
    exitCode: 2,
  });
