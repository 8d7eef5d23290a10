import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { explains, gradientDigest, locateDamage } from "../../shared/model/gradient-digest.ts";

const P = 4294967291n;
const word = fc.nat({ max: 0xffffffff });
const table = (hashes: readonly number[]) => Uint32Array.from(hashes.flatMap((hash) => [hash, 0x12345678]));

/** The definition, in integers of any size. */
function defined(hashes: readonly number[]): string {
  const plain = hashes.reduce((sum, hash) => sum + BigInt(hash), 0n) % P;
  const weighted = hashes.reduce((sum, hash, block) => sum + BigInt(block + 1) * BigInt(hash), 0n) % P;
  return [plain, weighted].map((half) => half.toString(16).padStart(8, "0")).join("");
}

describe("the digest of a gradient", () => {
  it("is the two sums that it says", () => {
    fc.assert(
      fc.property(fc.array(word, { minLength: 1, maxLength: 300 }), (hashes) => {
        expect(gradientDigest(table(hashes))).toBe(defined(hashes));
      }),
    );
    const many = Array.from({ length: 20_000 }, (_, block) => 0xfffffff0 - (block % 7));
    expect(gradientDigest(table(many))).toBe(defined(many));
  });

  it("names the block in which two vectors differ, and its hash", () => {
    fc.assert(
      fc.property(fc.array(word, { minLength: 1, maxLength: 300 }), fc.nat(), word, (hashes, at, other) => {
        const block = at % hashes.length;
        fc.pre(BigInt(hashes[block]!) % P !== BigInt(other) % P);
        const damaged = hashes.with(block, other);
        const damage = locateDamage(gradientDigest(table(hashes)), gradientDigest(table(damaged)), hashes.length)!;
        expect(damage.block).toBe(block);
        expect(explains(damage, hashes[block]!, other)).toBe(true);
        expect(explains(damage, hashes[block]!, other ^ 1)).toBe(false);
      }),
    );
  });

  it("names none where they are equal or differ in several blocks", () => {
    const hashes = Array.from({ length: 1000 }, (_, block) => Math.imul(block + 1, 0x9e3779b1) >>> 0);
    const sound = gradientDigest(table(hashes));
    expect(locateDamage(sound, sound, 1000)).toBeNull();
    // Of all pairs of damaged blocks about one in four million would be mistaken for one: none of these is.
    for (let block = 1; block < 1000; block++) {
      const damaged = hashes.with(0, 77).with(block, Math.imul(block, 0x85ebca6b) >>> 0);
      expect(locateDamage(sound, gradientDigest(table(damaged)), 1000)).toBeNull();
    }
  });

  it("refuses what is no digest", () => {
    expect(() => locateDamage("00", "0".repeat(16), 1)).toThrow(RangeError);
  });
});
