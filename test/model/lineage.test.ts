import { describe, expect, it } from "vitest";
import { forkLineage, nextLineage, rootLineage } from "../../shared/model/lineage.ts";

const recipe = "11".repeat(32);
const data = "22".repeat(32);
const state = "0123456789abcdef";
const digests = ["a1b2c3d4e5f60718", "00000000000000ff"];
const reduced = "fedcba9876543210";

/** Of Python's hashlib: sha256(b"lockstep-root-1" + recipe + data + state). */
const ROOT = "5b79ee8695e3c47eedc94c62615e88bf53ce8308098a436951cf3195bd4f9f2f";
/** sha256(b"lockstep-lineage-1" + ROOT + step as u64 + count as u32 + digests + reduced), all little-endian. */
const NEXT = "519cb94d6ffd6d06454c04121b8ae61fe24e292e2572f7f1797cff6026b6c97a";
/** sha256(b"lockstep-fork-1" + ROOT + step as u64 + recipe + data + state). */
const FORK = "3696f8ff69eb0ba34d801e2b10494073f19efcb24a4706d76ae98528c4698836";

describe("the lineage", () => {
  it("is the SHA-256 of the documented bytes", () => {
    expect(rootLineage(recipe, data, state)).toBe(ROOT);
    expect(nextLineage(ROOT, 0x0102, digests, reduced)).toBe(NEXT);
    expect(forkLineage(ROOT, 0x0102, recipe, data, state)).toBe(FORK);
  });

  it("changes with each of its parts", () => {
    const root = rootLineage(recipe, data, state);
    const all = [
      root,
      rootLineage(data, recipe, state),
      rootLineage(recipe, data, reduced),
      nextLineage(root, 1, digests, reduced),
      nextLineage(data, 1, digests, reduced),
      nextLineage(root, 2, digests, reduced),
      nextLineage(root, 1, [...digests].reverse(), reduced),
      nextLineage(root, 1, [digests[0]!], reduced),
      nextLineage(root, 1, digests, state),
      forkLineage(root, 1, recipe, data, state),
      forkLineage(data, 1, recipe, data, state),
      forkLineage(root, 2, recipe, data, state),
      forkLineage(root, 1, data, recipe, state),
      forkLineage(root, 1, recipe, data, reduced),
    ];
    expect(new Set(all).size).toBe(all.length);
  });

  it("refuses what is not a hash", () => {
    expect(() => rootLineage("xyz", data, state)).toThrow("the recipe's hash is not 64");
    expect(() => nextLineage(recipe, 1, ["A1B2C3D4E5F60718"], reduced)).toThrow("a shard's digest");
    expect(() => nextLineage(recipe, -1, digests, reduced)).toThrow(RangeError);
  });
});
