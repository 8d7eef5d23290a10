import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Binding, OpAttribute } from "../backend.ts";
import type { Constant, GraphNode } from "./recorder.ts";

/** The protobuf classes that TensorFlow.js ships for reading SavedModels, as far as writing one needs them. */
interface Message {
  serializeBinary(): Uint8Array;
}
interface ShapeMessage extends Message {
  addDim(): { setSize(size: number): void };
}
interface TensorMessage extends Message {
  setDtype(type: number): void;
  setTensorShape(shape: ShapeMessage): void;
  setTensorContent(bytes: Uint8Array): void;
}
interface ListMessage extends Message {
  setIList(values: readonly number[]): void;
  setFList(values: readonly number[]): void;
  setBList(values: readonly boolean[]): void;
}
interface AttrMessage extends Message {
  setS(bytes: Uint8Array): void;
  setI(value: number): void;
  setF(value: number): void;
  setB(value: boolean): void;
  setType(type: number): void;
  setShape(shape: ShapeMessage): void;
  setTensor(tensor: TensorMessage): void;
  setList(list: ListMessage): void;
}
interface NodeMessage extends Message {
  setName(name: string): void;
  setOp(op: string): void;
  setInputList(inputs: readonly string[]): void;
  getAttrMap(): { set(name: string, value: AttrMessage): void };
}
interface GraphMessage extends Message {
  setNodeList(nodes: readonly NodeMessage[]): void;
  setVersions(versions: Message): void;
}
interface MetaGraphMessage extends Message {
  setMetaInfoDef(info: Message): void;
  setGraphDef(graph: GraphMessage): void;
}
interface Protos {
  readonly TensorShape: new () => ShapeMessage;
  readonly Tensor: new () => TensorMessage;
  readonly AttrValue: (new () => AttrMessage) & { readonly ListValue: new () => ListMessage };
  readonly NodeDef: new () => NodeMessage;
  readonly VersionDef: new () => Message & { setProducer(version: number): void };
  readonly GraphDef: new () => GraphMessage;
  readonly MetaGraphDef: (new () => MetaGraphMessage) & {
    readonly MetaInfoDef: new () => Message & { addTags(tag: string): void };
  };
  readonly SavedModel: new () => Message & {
    setSavedModelSchemaVersion(version: number): void;
    addMetaGraphs(graph: MetaGraphMessage): void;
  };
}

const TAG = "serve";
/** GraphDef version from which on all attributes that we write are known; TensorFlow reads older producers for years. */
const PRODUCER = 1087;

/** Opens a session of a graph. The SavedModel lies on the disk for as long as TensorFlow reads it. */
export function openSession(binding: Binding, nodes: readonly GraphNode[]): number {
  const directory = mkdtempSync(join(tmpdir(), "lockstep-graph-"));
  try {
    writeFileSync(join(directory, "saved_model.pb"), savedModel(binding, nodes));
    return binding.loadSavedModel(directory, TAG);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** A SavedModel without variables, its bytes (tensorflow/core/protobuf/saved_model.proto). */
function savedModel(binding: Binding, nodes: readonly GraphNode[]): Uint8Array {
  const protos = createRequire(import.meta.url)("@tensorflow/tfjs-node-gpu/dist/proto/api_pb.js") as Protos;
  const graph = new protos.GraphDef();
  const versions = new protos.VersionDef();
  versions.setProducer(PRODUCER);
  graph.setVersions(versions);
  graph.setNodeList(nodes.map((node) => nodeDef(protos, binding, node)));
  const meta = new protos.MetaGraphDef();
  const info = new protos.MetaGraphDef.MetaInfoDef();
  info.addTags(TAG);
  meta.setMetaInfoDef(info);
  meta.setGraphDef(graph);
  const model = new protos.SavedModel();
  model.setSavedModelSchemaVersion(1);
  model.addMetaGraphs(meta);
  return model.serializeBinary();
}

function nodeDef(protos: Protos, binding: Binding, recorded: GraphNode): NodeMessage {
  const { name, op, inputs, after = [], attributes, constant } = recorded;
  const node = new protos.NodeDef();
  node.setName(name);
  node.setOp(op);
  node.setInputList([...inputs, ...after.map((other) => `^${other}`)]);
  const map = node.getAttrMap();
  for (const attribute of attributes) map.set(attribute.name, attrValue(protos, binding, attribute));
  if (constant !== undefined) {
    const [dtype, value] = [new protos.AttrValue(), new protos.AttrValue()];
    dtype.setType(constant.dtype);
    value.setTensor(tensorOf(protos, constant));
    map.set("dtype", dtype);
    map.set("value", value);
  }
  return node;
}

function attrValue(protos: Protos, binding: Binding, { name, type, value }: OpAttribute): AttrMessage {
  const message = new protos.AttrValue();
  if (Array.isArray(value) && type !== binding.TF_ATTR_SHAPE) {
    const list = new protos.AttrValue.ListValue();
    if (type === binding.TF_ATTR_INT) list.setIList(value as number[]);
    else if (type === binding.TF_ATTR_FLOAT) list.setFList(value as number[]);
    else if (type === binding.TF_ATTR_BOOL) list.setBList(value as boolean[]);
    else throw new RangeError(`attribute ${name} is a list of the unknown type ${type}`);
    message.setList(list);
    return message;
  }
  switch (type) {
    case binding.TF_ATTR_STRING:
      message.setS(new TextEncoder().encode(value as string));
      return message;
    case binding.TF_ATTR_INT:
      message.setI(value as number);
      return message;
    case binding.TF_ATTR_FLOAT:
      message.setF(value as number);
      return message;
    case binding.TF_ATTR_BOOL:
      message.setB(value as boolean);
      return message;
    case binding.TF_ATTR_TYPE:
      message.setType(value as number);
      return message;
    case binding.TF_ATTR_SHAPE:
      message.setShape(shapeOf(protos, value as readonly number[]));
      return message;
    default:
      throw new RangeError(`attribute ${name} has the unknown type ${type}`);
  }
}

function tensorOf(protos: Protos, { dtype, shape, bytes }: Constant): TensorMessage {
  const tensor = new protos.Tensor();
  tensor.setDtype(dtype);
  tensor.setTensorShape(shapeOf(protos, shape));
  tensor.setTensorContent(bytes);
  return tensor;
}

function shapeOf(protos: Protos, shape: readonly number[]): ShapeMessage {
  const message = new protos.TensorShape();
  for (const extent of shape) message.addDim().setSize(extent);
  return message;
}
