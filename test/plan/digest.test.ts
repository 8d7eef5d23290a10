import fc from "fast-check";
import { describe, expect, it } from "vitest";
import xxhash from "xxhash-wasm";
import { idsDigest, xxh64 } from "../../shared/plan/digest.ts";

describe("the digest of sample ids", () => {
  it("is XXH64 of their little-endian int32 bytes, as xxhash-wasm computes it", async () => {
    const { create64 } = await xxhash();
    fc.assert(
      fc.property(fc.array(fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }), { maxLength: 100 }), (ids) => {
        const bytes = new Uint8Array(Int32Array.from(ids).buffer);
        expect(idsDigest(ids)).toBe(create64().update(bytes).digest().toString(16).padStart(16, "0"));
      }),
    );
  });

  it("hashes inputs of any length", async () => {
    const { create64 } = await xxhash();
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        expect(xxh64(bytes)).toBe(create64().update(bytes).digest());
      }),
    );
    expect(xxh64(new Uint8Array()).toString(16)).toBe("ef46db3751d8e999"); // published for the empty input
  });

  it("tells orders apart", () => {
    expect(idsDigest([1, 2])).not.toBe(idsDigest([2, 1]));
    expect(idsDigest([1])).not.toBe(idsDigest([1, 1]));
  });
});
