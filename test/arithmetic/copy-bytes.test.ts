import fc from "fast-check";
import { expect, test } from "vitest";
import { copyBytes } from "../../worker/memory/copy-bytes.ts";

const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });

/** Ranges that begin and end anywhere, into shared memory and out of it. */
const ranges = fc.record({
  from: fc.integer({ min: 0, max: 5000 }),
  at: fc.integer({ min: 0, max: 5000 }),
  length: fc.integer({ min: 0, max: 5000 }),
  intoShared: fc.boolean(),
});

test("bytes are copied as they are, and none beside them is touched, whatever their alignment", () => {
  fc.assert(
    fc.property(ranges, fc.integer(), ({ from, at, length, intoShared }, seed) => {
      const shared = Buffer.from(memory.buffer, 0, 12_000);
      const plain = Buffer.alloc(12_000);
      const [source, target] = intoShared ? [plain, shared] : [shared, plain];
      for (let i = 0; i < source.length; i++) source[i] = (i * 31 + seed) & 255;
      for (let i = 0; i < target.length; i++) target[i] = (i * 17 + seed + 5) & 255;
      const expected = [...target];
      for (let i = 0; i < length; i++) expected[at + i] = source[from + i]!;
      copyBytes(target, at, source.subarray(from, from + length));
      expect([...target]).toEqual(expected);
    }),
    { numRuns: 60 },
  );
});

test("what does not fit is refused", () => {
  const target = Buffer.alloc(10);
  expect(() => copyBytes(target, 8, Buffer.alloc(3))).toThrow(RangeError);
  expect(() => copyBytes(target, -1, Buffer.alloc(3))).toThrow(RangeError);
});
