/**
 * The safetensors format (huggingface.co/docs/safetensors): eight bytes with the header's length, a JSON header, the
 * tensors' bytes, little-endian. The header is padded with spaces so that data start at a multiple of eight.
 */
export interface NamedTensor {
  readonly name: string;
  readonly dtype: "F32" | "I32";
  readonly shape: readonly number[];
  readonly values: Float32Array | Int32Array;
}

interface HeaderEntry {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly data_offsets: readonly [number, number];
}

const LONGEST_HEADER = 1 << 20;

/** One file with these tensors, in their order. */
export function encodeSafetensors(
  tensors: readonly NamedTensor[],
  metadata: Readonly<Record<string, string>>,
): Uint8Array {
  const header: Record<string, unknown> = { __metadata__: metadata };
  let end = 0;
  for (const { name, dtype, shape, values } of tensors) {
    header[name] = { dtype, shape, data_offsets: [end, end + values.byteLength] };
    end += values.byteLength;
  }
  const json = JSON.stringify(header);
  const text = new TextEncoder().encode(json.padEnd(Math.ceil(json.length / 8) * 8));
  const file = new Uint8Array(8 + text.length + end);
  new DataView(file.buffer).setBigUint64(0, BigInt(text.length), true);
  file.set(text, 8);
  let at = 8 + text.length;
  for (const { values } of tensors) {
    file.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), at);
    at += values.byteLength;
  }
  return file;
}

/** Tensors of a file by name; those of other types than float32 and int32 are left out. `wrong` makes the error to throw. */
export function decodeSafetensors(bytes: Uint8Array, wrong: (what: string) => Error): Map<string, NamedTensor> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 8) throw wrong("it is shorter than a header");
  const length = Number(view.getBigUint64(0, true));
  if (length > LONGEST_HEADER || 8 + length > bytes.length) throw wrong("its header is cut off");
  let header: Record<string, HeaderEntry>;
  try {
    header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length))) as Record<string, HeaderEntry>;
  } catch {
    throw wrong("its header is not JSON");
  }
  const tensors = new Map<string, NamedTensor>();
  for (const [name, entry] of Object.entries(header)) {
    if (name === "__metadata__" || (entry.dtype !== "F32" && entry.dtype !== "I32")) continue;
    const [from, to] = entry.data_offsets;
    const count = entry.shape.reduce((product, extent) => product * extent, 1);
    const sound = from >= 0 && to - from === count * 4 && 8 + length + to <= bytes.length;
    if (!sound) throw wrong(`tensor ${name} is cut off`);
    // A copy starts at an aligned address, which the view of a file in a larger buffer need not.
    // slice would give a view of the whole file where the bytes are a Buffer.
    const copy = new Uint8Array(bytes.subarray(8 + length + from, 8 + length + to)).buffer;
    const values = entry.dtype === "F32" ? new Float32Array(copy) : new Int32Array(copy);
    tensors.set(name, { name, dtype: entry.dtype, shape: entry.shape, values });
  }
  return tensors;
}
