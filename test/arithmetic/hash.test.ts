import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import xxhash from "xxhash-wasm";
import { BLOCK } from "../../shared/model/layout.ts";
import { hex64 } from "../../worker/arithmetic/arithmetic.ts";
import { Bench } from "./support.ts";

const bench = new Bench();
const { arithmetic } = bench;
let oracle: (bytes: Uint8Array) => bigint;

beforeAll(async () => {
  const { h64Raw } = await xxhash();
  oracle = (bytes) => h64Raw(bytes);
});

describe("XXH64", () => {
  it("gives the published value of nothing and of one letter", () => {
    // The second is the value that `xxhsum -H64` prints for the byte "a".
    expect(hex64(arithmetic.xxh64(0, 0))).toBe("ef46db3751d8e999");
    new Uint8Array(bench.memory.buffer)[0] = 0x61;
    expect(hex64(arithmetic.xxh64(0, 1))).toBe("d24ec4f1a98c6e5b");
  });

  it("equals another implementation on bytes of any length and start", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.integer({ min: 0, max: 9 }), (bytes, start) => {
        new Uint8Array(bench.memory.buffer, start, bytes.length).set(bytes);
        expect(arithmetic.xxh64(start, bytes.length)).toBe(oracle(bytes));
      }),
      { numRuns: 500 },
    );
  });

  it("hashes blocks into a table and the table into one hash", () => {
    const values = Float32Array.from({ length: 3 * BLOCK }, (_, i) => Math.sin(i));
    const address = bench.put(1, values);
    arithmetic.blockHashes(address, values.length, bench.at(3));
    const table = new BigUint64Array(bench.memory.buffer, bench.at(3), 3);
    const blocks = [0, 1, 2].map((i) => new Uint8Array(values.buffer, i * BLOCK * 4, BLOCK * 4));
    expect([...table]).toEqual(blocks.map(oracle));
    expect(arithmetic.hashTable(bench.at(3), 3)).toBe(oracle(new Uint8Array(table.slice().buffer)));
  });

  it("sees one flipped bit", () => {
    const address = bench.put(1, new Float32Array(BLOCK));
    const before = arithmetic.xxh64(address, BLOCK * 4);
    const bytes = new Uint8Array(bench.memory.buffer, address, BLOCK * 4);
    bytes[4095]! ^= 1;
    expect(arithmetic.xxh64(address, BLOCK * 4)).not.toBe(before);
    bytes[4095]! ^= 1;
    expect(arithmetic.xxh64(address, BLOCK * 4)).toBe(before);
  });

  it("refuses part of a block", () => {
    expect(() => arithmetic.blockHashes(0, BLOCK + 1, 65536)).toThrow(RangeError);
  });
});
