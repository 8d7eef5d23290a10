import fc from "fast-check";
import { describe, expect, it } from "vitest";
import xxhash from "xxhash-wasm";
import { LockstepError } from "../../shared/errors.ts";
import { BLOCK } from "../../shared/model/layout.ts";
import {
  CHUNK_KINDS,
  type ChunkHeader,
  HEADER_BYTES,
  layOutChunk,
  MAX_BLOCKS,
  MAX_CHUNK_BYTES,
  parseChunk,
  textChunk,
} from "../../worker/exchange/chunk.ts";

const u32 = fc.integer({ min: 0, max: 0xffffffff });
const u16 = fc.integer({ min: 0, max: 0xffff });
const headers = fc.record<ChunkHeader>({
  kind: fc.constantFrom("partial", "reduced"),
  wire: fc.constantFrom("float32", "bf16"),
  view: fc.record({ term: u32, number: u32 }),
  step: u32,
  nodeFrom: u16,
  nodeTo: u16,
  firstBlock: u32,
  blocks: fc.integer({ min: 1, max: 4 }),
});

function chunkOf(header: ChunkHeader, fill: number): Buffer {
  const { buffer, hashes, payload } = layOutChunk(Buffer.alloc(MAX_CHUNK_BYTES), header);
  hashes.fill(fill + 1);
  payload.fill(fill);
  return buffer;
}

/** The refusal of a parse, or null. Anything but a coded error is a failure. */
function refusalOf(buffer: Buffer): string | null {
  try {
    parseChunk(buffer);
    return null;
  } catch (error) {
    if (error instanceof LockstepError) return error.code;
    throw error;
  }
}

describe("chunks", () => {
  it("come back as they were written", () => {
    fc.assert(
      fc.property(headers, fc.nat(200), (header, fill) => {
        const buffer = chunkOf(header, fill);
        const { hashes, payload, ...read } = parseChunk(buffer);
        expect(read).toEqual(header);
        expect(hashes.length).toBe(header.blocks * 8);
        expect(payload.length).toBe(header.blocks * BLOCK * (header.wire === "bf16" ? 2 : 4));
        expect(hashes.every((byte) => byte === fill + 1) && payload.every((byte) => byte === fill)).toBe(true);
      }),
    );
  });

  it("have the bytes that proto/exchange.md shows", () => {
    const header = {
      kind: "partial",
      wire: "bf16",
      view: { term: 3, number: 258 },
      step: 7,
      nodeFrom: 2,
      nodeTo: 4,
    } as const;
    const buffer = chunkOf({ ...header, firstBlock: 5, blocks: 1 }, 0);
    expect(buffer.length).toBe(51 + 8 + 2048);
    expect(buffer.subarray(0, 44).toString("hex")).toBe(
      "4c535832" + // LSX2
        "00" + // partial
        "01" + // bf16
        "0000" +
        "03000000" + // term
        "02010000" + // number
        "07000000" + // step
        "0200" + // node, from
        "0400" + // to
        "05000000" + // first block
        "01000000" + // blocks
        "00080000" + // payload bytes
        "00000000" + // text checksum
        "00000000",
    );
    // CRC-32 of the 44 bytes, computed with Python's zlib.crc32.
    expect(buffer.readUInt32LE(44)).toBe(0x9d0ff0a5);
  });

  it("of text come back, with their checksum", () => {
    const buffer = textChunk("trailer", { term: 1, number: 2 }, 9, { hello: "wörld" });
    const chunk = parseChunk(buffer);
    expect([chunk.kind, chunk.step, chunk.blocks]).toEqual(["trailer", 9, 0]);
    expect(JSON.parse(chunk.payload.toString())).toEqual({ hello: "wörld" });
  });

  it("are refused with any one bit of header or text flipped", () => {
    const chunk = chunkOf(
      {
        kind: "reduced",
        wire: "float32",
        view: { term: 1, number: 1 },
        step: 0,
        nodeFrom: 0,
        nodeTo: 0,
        firstBlock: 0,
        blocks: 1,
      },
      3,
    );
    const text = textChunk("active", { term: 1, number: 2 }, 9, { some: "text" });
    for (const [buffer, bytes] of [
      [chunk, HEADER_BYTES],
      [text, text.length],
    ] as const) {
      for (let bit = 0; bit < bytes * 8; bit++) {
        buffer[bit >> 3]! ^= 1 << (bit & 7);
        expect(refusalOf(buffer), `bit ${bit}`).toBe("LS_CHUNK");
        buffer[bit >> 3]! ^= 1 << (bit & 7);
      }
      expect(refusalOf(buffer)).toBeNull();
    }
  });

  it("are refused when cut short, made longer, or made of random bytes", () => {
    const whole = chunkOf(
      {
        kind: "partial",
        wire: "float32",
        view: { term: 1, number: 1 },
        step: 0,
        nodeFrom: 0,
        nodeTo: 1,
        firstBlock: 0,
        blocks: 2,
      },
      3,
    );
    for (const length of [0, 1, 50, 51, 63, whole.length - 1])
      expect(refusalOf(whole.subarray(0, length))).toBe("LS_CHUNK");
    expect(refusalOf(Buffer.concat([whole, Buffer.alloc(1)]))).toBe("LS_CHUNK");
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        expect(refusalOf(Buffer.from(bytes))).toBe("LS_CHUNK");
      }),
    );
  });

  it("are refused with sizes that no chunk has, under a right checksum", () => {
    const header = {
      wire: "float32",
      view: { term: 1, number: 1 },
      step: 0,
      nodeFrom: 0,
      nodeTo: 0,
      firstBlock: 0,
    } as const;
    for (const kind of CHUNK_KINDS) {
      const isText = kind === "trailer" || kind === "active";
      // As many blocks as the size says, but none for data, some for text, or too many.
      const room = Buffer.alloc(MAX_CHUNK_BYTES + 8 + BLOCK * 4);
      expect(refusalOf(layOutChunk(room, { ...header, kind, blocks: 0 }).buffer)).toBe(isText ? null : "LS_CHUNK");
      expect(refusalOf(layOutChunk(room, { ...header, kind, blocks: MAX_BLOCKS + 1 }).buffer)).toBe("LS_CHUNK");
    }
  });

  it("show any flipped bit of the payload by their block hashes", async () => {
    const { h64Raw } = await xxhash();
    const floats = new Float32Array(BLOCK).map((_, i) => Math.sin(i));
    const bytes = new Uint8Array(floats.buffer);
    const hash = h64Raw(bytes);
    fc.assert(
      fc.property(fc.nat(bytes.length * 8 - 1), (bit) => {
        bytes[bit >> 3]! ^= 1 << (bit & 7);
        expect(h64Raw(bytes)).not.toBe(hash);
        bytes[bit >> 3]! ^= 1 << (bit & 7);
      }),
    );
  });
});
