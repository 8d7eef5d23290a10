import { crc32 } from "node:zlib";
import { LockstepError } from "../../shared/errors.ts";
import { BLOCK } from "../../shared/model/layout.ts";
import type { ViewId } from "../../shared/protocol/view.ts";

/**
 * The raw codec of the exchange, as proto/exchange.md defines it: a fixed header, a table of block hashes, the payload.
 */
export const CHUNK_KINDS = ["partial", "reduced", "trailer", "active"] as const;
export type ChunkKind = (typeof CHUNK_KINDS)[number];
export type WireFormat = "float32" | "bf16";

export interface ChunkHeader {
  readonly kind: ChunkKind;
  readonly wire: WireFormat;
  readonly view: ViewId;
  readonly step: number;
  /** The tree node that a partial belongs to; 0, 0 otherwise. */
  readonly nodeFrom: number;
  readonly nodeTo: number;
  /** First block in the gradient vector, and the number of blocks; 0 for trailers. */
  readonly firstBlock: number;
  readonly blocks: number;
}

export interface Chunk extends ChunkHeader {
  /** XXH64 of each block as float32, little-endian u64. */
  readonly hashes: Buffer;
  readonly payload: Buffer;
}

export const HEADER_BYTES = 48;
/** Most blocks in a chunk: 1 MiB of float32. */
export const MAX_BLOCKS = 256;
const MAGIC = 0x31584c53; // "SLX1" read as little-endian
const MAX_TEXT = 4 << 20;

const payloadBytes = (wire: WireFormat, blocks: number) => blocks * BLOCK * (wire === "bf16" ? 2 : 4);

/** A buffer of the right size with its header written; the caller fills in hashes and payload. */
export function allocateChunk(header: ChunkHeader, textBytes = 0): { readonly buffer: Buffer; readonly hashes: Buffer; readonly payload: Buffer } {
  const hashBytes = header.blocks * 8;
  const size = header.blocks > 0 ? payloadBytes(header.wire, header.blocks) : textBytes;
  const buffer = Buffer.allocUnsafe(HEADER_BYTES + hashBytes + size);
  buffer.writeUInt32LE(MAGIC, 0);
  buffer.writeUInt8(CHUNK_KINDS.indexOf(header.kind), 4);
  buffer.writeUInt8(header.wire === "bf16" ? 1 : 0, 5);
  buffer.writeUInt16LE(0, 6);
  buffer.writeUInt32LE(header.view.term, 8);
  buffer.writeUInt32LE(header.view.number, 12);
  buffer.writeUInt32LE(header.step, 16);
  buffer.writeUInt16LE(header.nodeFrom, 20);
  buffer.writeUInt16LE(header.nodeTo, 22);
  buffer.writeUInt32LE(header.firstBlock, 24);
  buffer.writeUInt32LE(header.blocks, 28);
  buffer.writeUInt32LE(size, 32);
  buffer.writeUInt32LE(0, 36);
  buffer.writeUInt32LE(0, 40);
  buffer.writeUInt32LE(crc32(buffer.subarray(0, 44)), 44);
  return {
    buffer,
    hashes: buffer.subarray(HEADER_BYTES, HEADER_BYTES + hashBytes),
    payload: buffer.subarray(HEADER_BYTES + hashBytes),
  };
}

/** A chunk that carries JSON: a trailer, or the news that a view is active. */
export function textChunk(kind: "trailer" | "active", view: ViewId, step: number, value: unknown): Buffer {
  const text = Buffer.from(JSON.stringify(value));
  const header = { kind, wire: "float32", view, step, nodeFrom: 0, nodeTo: 0, firstBlock: 0, blocks: 0 } as const;
  const { buffer, payload } = allocateChunk(header, text.length);
  text.copy(payload);
  return buffer;
}

const malformed = (what: string) =>
  new LockstepError("LS_CHUNK", `A chunk of the exchange is malformed: ${what}.`, { hint: "The stream is dropped and opened again." });

/** @throws LockstepError LS_CHUNK */
export function parseChunk(buffer: Buffer): Chunk {
  if (buffer.length < HEADER_BYTES) throw malformed(`${buffer.length} bytes are less than a header`);
  if (buffer.readUInt32LE(0) !== MAGIC) throw malformed("its first bytes are not a chunk's");
  if (buffer.readUInt32LE(44) !== crc32(buffer.subarray(0, 44))) throw malformed("the header's checksum is wrong");
  const kind = CHUNK_KINDS[buffer.readUInt8(4)];
  if (kind === undefined) throw malformed(`kind ${buffer.readUInt8(4)}`);
  const wire = buffer.readUInt8(5) === 1 ? "bf16" : "float32";
  const blocks = buffer.readUInt32LE(28);
  const size = buffer.readUInt32LE(32);
  if (blocks > MAX_BLOCKS) throw malformed(`${blocks} blocks`);
  if (blocks > 0 ? size !== payloadBytes(wire, blocks) : size > MAX_TEXT) throw malformed(`a payload of ${size} bytes`);
  const at = HEADER_BYTES + blocks * 8;
  if (buffer.length !== at + size) throw malformed(`${buffer.length} bytes, ${at + size} expected`);
  return {
    kind,
    wire,
    view: { term: buffer.readUInt32LE(8), number: buffer.readUInt32LE(12) },
    step: buffer.readUInt32LE(16),
    nodeFrom: buffer.readUInt16LE(20),
    nodeTo: buffer.readUInt16LE(22),
    firstBlock: buffer.readUInt32LE(24),
    blocks,
    hashes: buffer.subarray(HEADER_BYTES, at),
    payload: buffer.subarray(at),
  };
}
