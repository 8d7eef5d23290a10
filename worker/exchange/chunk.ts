import { crc32 } from "node:zlib";
import { LockstepError } from "../../shared/errors.ts";
import { BLOCK } from "../../shared/model/layout.ts";
import type { ViewId } from "../../shared/protocol/view.ts";

/**
 * The raw codec of the exchange, as proto/exchange.md defines it: a fixed header with a checksum of its own, a table of
 * block hashes, the payload. Pure: bytes in, bytes out.
 */
export const CHUNK_KINDS = ["partial", "reduced", "trailer", "active"] as const;
export type ChunkKind = (typeof CHUNK_KINDS)[number];
export type WireFormat = "float32" | "bf16";

export interface ChunkHeader {
  readonly kind: ChunkKind;
  readonly wire: WireFormat;
  readonly view: ViewId;
  readonly step: number;
  /** The tree node that a partial belongs to, shards [from, to); 0, 0 otherwise. */
  readonly nodeFrom: number;
  readonly nodeTo: number;
  /** First block in the gradient vector, and the number of blocks; 0 for text. */
  readonly firstBlock: number;
  readonly blocks: number;
}

export interface Chunk extends ChunkHeader {
  /** XXH64 of each block as float32, little-endian u64; empty for text. */
  readonly hashes: Buffer;
  readonly payload: Buffer;
}

/** With the 5 bytes that gRPC puts before a message they end at a multiple of 8, so that floats are copied by words, not by bytes. */
export const HEADER_BYTES = 51;
/** Most blocks in a chunk: 1 MiB of float32. Larger messages are slower through gRPC, smaller ones cost more calls. */
export const MAX_BLOCKS = 256;
/** A room that is laid out from a multiple of 8 plus this has its payload at a multiple of 8. */
export const ROOM_OFFSET = 5;
/** Most bytes of a text chunk's payload. */
export const MAX_TEXT = 4 << 20;
/** Bytes of the largest chunk that carries blocks. */
export const MAX_CHUNK_BYTES = HEADER_BYTES + MAX_BLOCKS * (8 + BLOCK * 4);

const MAGIC = 0x3258534c; // "LSX2", little-endian; the digit is the version
const CHECKED_BYTES = 44;
const WIRES: readonly WireFormat[] = ["float32", "bf16"];

const isText = (kind: ChunkKind) => kind === "trailer" || kind === "active";
const payloadBytes = (wire: WireFormat, blocks: number) => blocks * BLOCK * (wire === "bf16" ? 2 : 4);

/** The parts of a chunk in a buffer: `buffer` is exactly the chunk. */
export interface ChunkParts {
  readonly buffer: Buffer;
  readonly hashes: Buffer;
  readonly payload: Buffer;
}

/**
 * Writes the header of a chunk of blocks at the start of `room` (at least MAX_CHUNK_BYTES) and returns its parts; the
 * caller fills in hashes and payload.
 */
export function layOutChunk(room: Buffer, header: ChunkHeader): ChunkParts {
  return layOut(room, header, payloadBytes(header.wire, header.blocks), 0);
}

/** A chunk that carries JSON: a trailer, or the news that a view is active. */
export function textChunk(kind: "trailer" | "active", view: ViewId, step: number, value: unknown): Buffer {
  const text = Buffer.from(JSON.stringify(value));
  const header = { kind, wire: "float32", view, step, nodeFrom: 0, nodeTo: 0, firstBlock: 0, blocks: 0 } as const;
  const { buffer, payload } = layOut(Buffer.allocUnsafe(HEADER_BYTES + text.length), header, text.length, crc32(text));
  text.copy(payload);
  return buffer;
}

function layOut(room: Buffer, header: ChunkHeader, size: number, textChecksum: number): ChunkParts {
  const table = HEADER_BYTES + header.blocks * 8;
  room.writeUInt32LE(MAGIC, 0);
  room.writeUInt8(CHUNK_KINDS.indexOf(header.kind), 4);
  room.writeUInt8(WIRES.indexOf(header.wire), 5);
  room.writeUInt16LE(0, 6);
  room.writeUInt32LE(header.view.term, 8);
  room.writeUInt32LE(header.view.number, 12);
  room.writeUInt32LE(header.step, 16);
  room.writeUInt16LE(header.nodeFrom, 20);
  room.writeUInt16LE(header.nodeTo, 22);
  room.writeUInt32LE(header.firstBlock, 24);
  room.writeUInt32LE(header.blocks, 28);
  room.writeUInt32LE(size, 32);
  room.writeUInt32LE(textChecksum, 36);
  room.writeUInt32LE(0, 40);
  room.writeUInt32LE(crc32(room.subarray(0, CHECKED_BYTES)), CHECKED_BYTES);
  room.fill(0, CHECKED_BYTES + 4, HEADER_BYTES);
  return {
    buffer: room.subarray(0, table + size),
    hashes: room.subarray(HEADER_BYTES, table),
    payload: room.subarray(table, table + size),
  };
}

const malformed = (what: string) =>
  new LockstepError("LS_CHUNK", `A chunk of the exchange is malformed: ${what}.`, {
    hint: "The stream is dropped and opened again.",
  });

/**
 * Reads a chunk. Hashes and payload are views of `buffer`; the hashes of blocks are the caller's to check, where the
 * floats come to lie.
 * @throws LockstepError LS_CHUNK
 */
export function parseChunk(buffer: Buffer): Chunk {
  if (buffer.length < HEADER_BYTES) throw malformed(`${buffer.length} bytes are less than a header`);
  if (buffer.readUInt32LE(0) !== MAGIC) throw malformed("its first bytes are not those of a chunk of this version");
  if (buffer.readUInt32LE(CHECKED_BYTES) !== crc32(buffer.subarray(0, CHECKED_BYTES))) {
    throw malformed("the header's checksum is wrong");
  }
  if (buffer.readUIntLE(CHECKED_BYTES + 4, 3) !== 0) throw malformed("the bytes between header and hashes are not 0");
  const kind = CHUNK_KINDS[buffer.readUInt8(4)];
  const wire = WIRES[buffer.readUInt8(5)];
  if (kind === undefined) throw malformed(`kind ${buffer.readUInt8(4)}`);
  if (wire === undefined) throw malformed(`wire format ${buffer.readUInt8(5)}`);
  const blocks = buffer.readUInt32LE(28);
  const size = buffer.readUInt32LE(32);
  checkSize(kind, wire, blocks, size);
  const table = HEADER_BYTES + blocks * 8;
  if (buffer.length !== table + size) throw malformed(`${buffer.length} bytes, ${table + size} expected`);
  const payload = buffer.subarray(table);
  if (isText(kind) && buffer.readUInt32LE(36) !== crc32(payload)) throw malformed("the text's checksum is wrong");
  return {
    kind,
    wire,
    view: { term: buffer.readUInt32LE(8), number: buffer.readUInt32LE(12) },
    step: buffer.readUInt32LE(16),
    nodeFrom: buffer.readUInt16LE(20),
    nodeTo: buffer.readUInt16LE(22),
    firstBlock: buffer.readUInt32LE(24),
    blocks,
    hashes: buffer.subarray(HEADER_BYTES, table),
    payload,
  };
}

function checkSize(kind: ChunkKind, wire: WireFormat, blocks: number, size: number): void {
  if (isText(kind)) {
    if (blocks !== 0) throw malformed(`${blocks} blocks of text`);
    if (size > MAX_TEXT) throw malformed(`a text of ${size} bytes`);
    return;
  }
  if (blocks < 1 || blocks > MAX_BLOCKS) throw malformed(`${blocks} blocks`);
  if (size !== payloadBytes(wire, blocks)) throw malformed(`a payload of ${size} bytes for ${blocks} blocks`);
}
