/**
 * TensorBoard's event files: records in TFRecord framing (length, checksum of the length, bytes, checksum of the bytes;
 * tensorflow.org/tutorials/load_data/tfrecord), each a protobuf `tensorflow.Event`. Five fields of three messages are needed:
 * writing them by hand is shorter than a protobuf library with their definitions.
 */

/** A moment of a run with its figures. */
export interface ScalarEvent {
  /** Milliseconds since 1970. */
  readonly time: number;
  readonly step: number;
  readonly scalars: Readonly<Record<string, number>>;
}

/** First record of every file. */
export const versionEvent = (time: number): Buffer => record(Buffer.concat([wallTime(time), text(3, "brain.Event:2")]));

/** Whoever reads forgets this step and later ones, which an earlier record held: the run fell back. */
export const restartEvent = (time: number, step: number): Buffer =>
  record(Buffer.concat([wallTime(time), integer(2, step), message(7, integer(1, 1))]));

/** Figures of a step. */
export function scalarEvent({ time, step, scalars }: ScalarEvent): Buffer {
  const values = Object.entries(scalars).map(([tag, value]) =>
    message(1, Buffer.concat([text(1, tag), float(2, value)])),
  );
  return record(Buffer.concat([wallTime(time), integer(2, step), message(5, Buffer.concat(values))]));
}

/** Bytes in TFRecord framing. */
function record(bytes: Buffer): Buffer {
  const head = Buffer.alloc(12);
  head.writeBigUInt64LE(BigInt(bytes.length));
  head.writeUInt32LE(maskedCrc32c(head.subarray(0, 8)), 8);
  const tail = Buffer.alloc(4);
  tail.writeUInt32LE(maskedCrc32c(bytes));
  return Buffer.concat([head, bytes, tail]);
}

/** Reflected polynomial of CRC-32C (Castagnoli), RFC 3720. */
const POLYNOMIAL = 0x82f63b78;
const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let rest = byte;
  for (let bit = 0; bit < 8; bit++) rest = rest & 1 ? (rest >>> 1) ^ POLYNOMIAL : rest >>> 1;
  return rest;
});

export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = (crc >>> 8) ^ TABLE[(crc ^ byte) & 255]!;
  return ~crc >>> 0;
}

/** Rotated and shifted, since a checksum of bytes that hold checksums would be weak. */
export function maskedCrc32c(bytes: Uint8Array): number {
  const crc = crc32c(bytes);
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

// Protobuf's wire format: a key (field number, wire type), then the value.

const varint = (value: number): Buffer => {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128);
  bytes.push(rest);
  return Buffer.from(bytes);
};
const key = (field: number, type: 0 | 1 | 2 | 5) => varint((field << 3) | type);
const integer = (field: number, value: number) => Buffer.concat([key(field, 0), varint(value)]);
const message = (field: number, bytes: Buffer) => Buffer.concat([key(field, 2), varint(bytes.length), bytes]);
const text = (field: number, value: string) => message(field, Buffer.from(value));
const float = (field: number, value: number) => {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return Buffer.concat([key(field, 5), bytes]);
};
const wallTime = (time: number) => {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleLE(time / 1000);
  return Buffer.concat([key(1, 1), bytes]);
};
