import { execFileSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import { nextLineage, rootLineage } from "../../shared/model/lineage.ts";

const recipe = "11".repeat(32);
const data = "22".repeat(32);
const state = "0123456789abcdef";
const digests = ["a1b2c3d4e5f60718", "00000000000000ff"];
const reduced = "fedcba9876543210";

/** SHA-256 of coreutils, an implementation that shares no code. */
const sha256sum = (hex: string) =>
  execFileSync("sha256sum", { input: Buffer.from(hex, "hex") })
    .toString()
    .slice(0, 64);
const ascii = (text: string) => Buffer.from(text, "ascii").toString("hex");

describe("the lineage", () => {
  it("is the SHA-256 of the documented bytes", () => {
    const root = sha256sum(ascii("lockstep-root-1") + recipe + data + state);
    expect(rootLineage(recipe, data, state)).toBe(root);
    const step = "0201000000000000";
    const count = "02000000";
    expect(nextLineage(root, 0x0102, digests, reduced)).toBe(
      sha256sum(ascii("lockstep-lineage-1") + root + step + count + digests.join("") + reduced),
    );
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
    ];
    expect(new Set(all).size).toBe(all.length);
  });

  it("refuses what is not a hash", () => {
    expect(() => rootLineage("xyz", data, state)).toThrow("the recipe's hash is not 64");
    expect(() => nextLineage(recipe, 1, ["A1B2C3D4E5F60718"], reduced)).toThrow("a shard's digest");
    expect(() => nextLineage(recipe, -1, digests, reduced)).toThrow(RangeError);
  });
});
