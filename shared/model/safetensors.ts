import { type FileHandle, open } from "node:fs/promises";
import { LockstepError } from "../errors.ts";

/**
 * The safetensors format (https://github.com/huggingface/safetensors#format): eight bytes with the length of the header
 * as little-endian u64, the header as JSON, then the tensors' little-endian bytes without holes, in the header's order.
 * Text about the file stands under `__metadata__`, strings only. The header is padded with spaces to a multiple of 64
 * bytes, so that a file mapped into memory has aligned tensors.
 */
export type Dtype = keyof typeof BYTES;

const BYTES = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  U16: 2,
  I16: 2,
  F16: 2,
  BF16: 2,
  U32: 4,
  I32: 4,
  F32: 4,
  U64: 8,
  I64: 8,
  F64: 8,
} as const;

export interface TensorInfo {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
}

/** A tensor of a file: its bytes are [from, to) of the part behind the header. */
export interface StoredTensor extends TensorInfo {
  readonly from: number;
  readonly to: number;
}

export interface Header {
  readonly tensors: readonly StoredTensor[];
  readonly metadata: Readonly<Record<string, string>>;
}

const PREFIX = 8;
const ALIGNMENT = 64;
/** The limit that the format's own reader has. */
const LONGEST_HEADER = 100_000_000;
/** Node takes no more than 2 GiB at once. */
const LONGEST_READ = 2 ** 30;

const bytesOf = ({ dtype, shape }: TensorInfo) => shape.reduce((product, extent) => product * extent, BYTES[dtype]);

/** The first bytes of a file, prefix included: what follows are the tensors' bytes, in this order. */
export function encodeHeader(
  tensors: readonly TensorInfo[],
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array {
  // Without a prototype any name is a plain key.
  const header = Object.create(null) as Record<string, unknown>;
  if (Object.keys(metadata).length > 0) header.__metadata__ = metadata;
  let at = 0;
  for (const tensor of tensors) {
    if (tensor.name in header || tensor.name === "__metadata__") throw new RangeError(`two tensors "${tensor.name}"`);
    const to = at + bytesOf(tensor);
    header[tensor.name] = { dtype: tensor.dtype, shape: tensor.shape, data_offsets: [at, to] };
    at = to;
  }
  const text = new TextEncoder().encode(JSON.stringify(header));
  const length = Math.ceil((PREFIX + text.length) / ALIGNMENT) * ALIGNMENT - PREFIX;
  const bytes = new Uint8Array(PREFIX + length).fill(0x20);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(length), true);
  bytes.set(text, PREFIX);
  return bytes;
}

/**
 * Length of the header behind the prefix.
 * @throws LockstepError LS_SAFETENSORS
 */
export function headerLength(prefix: Uint8Array, fileBytes: number, file: string): number {
  if (prefix.length < PREFIX) throw torn(file, "it is shorter than a header");
  const length = Number(new DataView(prefix.buffer, prefix.byteOffset, PREFIX).getBigUint64(0, true));
  if (length > LONGEST_HEADER || PREFIX + length > fileBytes) throw torn(file, "its header is cut off");
  return length;
}

/**
 * The header from its JSON bytes (without prefix), checked: known types, sizes that fit the shapes, no holes, no
 * overlaps, nothing beyond the end.
 * @param dataBytes bytes of the file behind the header
 * @throws LockstepError LS_SAFETENSORS
 */
export function parseHeader(json: Uint8Array, dataBytes: number, file: string): Header {
  const entries = Object.entries(parseJson(json, file));
  const metadata = (entries.find(([name]) => name === "__metadata__")?.[1] ?? {}) as Record<string, string>;
  if (Object.values(metadata).some((value) => typeof value !== "string")) throw torn(file, "its metadata is not text");
  const tensors = entries
    .filter(([name]) => name !== "__metadata__")
    .map(([name, entry]) => storedTensor(name, entry, file))
    .sort((a, b) => a.from - b.from || a.to - b.to);
  let at = 0;
  for (const { name, from, to } of tensors) {
    if (from !== at) throw torn(file, `tensor ${name} starts at byte ${from} instead of ${at}`);
    at = to;
  }
  if (at !== dataBytes) throw torn(file, `it holds ${dataBytes} bytes of tensors instead of ${at}`);
  return { tensors, metadata };
}

function parseJson(json: Uint8Array, file: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(json));
  } catch (cause) {
    throw torn(file, "its header is not JSON", cause);
  }
  if (json[0] !== 0x7b || typeof value !== "object" || value === null) throw torn(file, "its header is not an object");
  return value as Record<string, unknown>;
}

function storedTensor(name: string, entry: unknown, file: string): StoredTensor {
  const { dtype, shape, data_offsets: offsets } = (entry ?? {}) as Record<string, unknown>;
  const whole = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
  const sound = Array.isArray(shape) && shape.every(whole) && Array.isArray(offsets) && offsets.every(whole);
  if (!sound || offsets.length !== 2) throw torn(file, `the entry of tensor ${name} is malformed`);
  if (typeof dtype !== "string" || !(dtype in BYTES)) throw torn(file, `tensor ${name} has the unknown type ${dtype}`);
  const tensor = { name, dtype: dtype as Dtype, shape: shape as number[] };
  const [from, to] = offsets as [number, number];
  if (to - from !== bytesOf(tensor)) throw torn(file, `tensor ${name} has ${to - from} bytes, not ${bytesOf(tensor)}`);
  return { ...tensor, from, to };
}

const torn = (file: string, what: string, cause?: unknown) =>
  new LockstepError("LS_SAFETENSORS", `${file} is not a sound safetensors file: ${what}.`, {
    hint: "Copy it again, or use another file.",
    cause,
  });

/** An open file: its header, and its tensors one at a time. */
export class SafetensorsFile {
  readonly header: Header;
  readonly path: string;
  readonly #handle: FileHandle;
  readonly #dataStart: number;

  private constructor(path: string, handle: FileHandle, header: Header, dataStart: number) {
    this.path = path;
    this.header = header;
    this.#handle = handle;
    this.#dataStart = dataStart;
  }

  /** @throws LockstepError LS_SAFETENSORS, or the system's error where there is no such file. */
  static async open(path: string): Promise<SafetensorsFile> {
    const handle = await open(path, "r");
    try {
      const { size } = await handle.stat();
      const length = headerLength(await readBytes(handle, 0, Math.min(PREFIX, size), path), size, path);
      const start = PREFIX + length;
      const header = parseHeader(await readBytes(handle, PREFIX, length, path), size - start, path);
      return new SafetensorsFile(path, handle, header, start);
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  /** Bytes of one tensor, at an aligned address of their own. */
  async bytes(name: string): Promise<Uint8Array<ArrayBuffer>> {
    const tensor = this.header.tensors.find((known) => known.name === name);
    if (tensor === undefined) throw torn(this.path, `it has no tensor ${name}`);
    return readBytes(this.#handle, this.#dataStart + tensor.from, tensor.to - tensor.from, this.path);
  }

  /** A float32 tensor. */
  async floats(name: string): Promise<Float32Array> {
    const dtype = this.header.tensors.find((known) => known.name === name)?.dtype;
    if (dtype !== undefined && dtype !== "F32") throw torn(this.path, `tensor ${name} is ${dtype}, not F32`);
    return new Float32Array((await this.bytes(name)).buffer);
  }

  /** All tensors one after the other, of a file that holds float32 alone. */
  async allFloats(): Promise<Float32Array> {
    const { tensors } = this.header;
    const other = tensors.find(({ dtype }) => dtype !== "F32");
    if (other !== undefined) throw torn(this.path, `tensor ${other.name} is ${other.dtype}, not F32`);
    const bytes = await readBytes(this.#handle, this.#dataStart, tensors.at(-1)?.to ?? 0, this.path);
    return new Float32Array(bytes.buffer);
  }

  close(): Promise<void> {
    return this.#handle.close();
  }
}

async function readBytes(handle: FileHandle, position: number, count: number, path: string) {
  const bytes = new Uint8Array(count);
  for (let at = 0; at < count; ) {
    const { bytesRead } = await handle.read(bytes, at, Math.min(count - at, LONGEST_READ), position + at);
    if (bytesRead === 0) throw torn(path, "it ends early");
    at += bytesRead;
  }
  return bytes;
}
