import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { assignShards, slowestOf } from "../../coordinator/machine/assign.ts";
import type { ShardRange } from "../../shared/plan/tree.ts";
import { expectCover } from "./support.ts";

/** Nodes of the canonical tree inside [from, to), counted by walking it: an oracle of its own. */
function nodesOf(from: number, to: number, low: number, high: number): number {
  if (to <= low || high <= from) return 0;
  if (from <= low && high <= to) return 1;
  let half = 1;
  while (half * 2 < high - low) half *= 2;
  return nodesOf(from, to, low, low + half) + nodesOf(from, to, low + half, high);
}

/** Every way to cut `shards` into one size for each worker, zero allowed. */
function* splits(shards: number, workers: number): Generator<number[]> {
  if (workers === 1) return void (yield [shards]);
  for (let size = shards; size >= 0; size--) {
    for (const rest of splits(shards - size, workers - 1)) yield [size, ...rest];
  }
}

/** What the documentation promises, from all splits: the first of the smallest (slowest, idle, nodes, unevenness). */
function best(shards: number, times: readonly number[]): { readonly slowest: number; readonly sizes: number[] } {
  const ranked = [...splits(shards, times.length)].map((sizes) => {
    let [from, nodes] = [0, 0];
    for (const size of sizes) {
      nodes += nodesOf(from, from + size, 0, shards);
      from += size;
    }
    const slowest = Math.max(...sizes.map((size, i) => size * times[i]!));
    const uneven = sizes.reduce((sum, size, i) => sum + size * size * times[i]!, 0);
    return { sizes, key: [slowest, sizes.filter((size) => size === 0).length, nodes, uneven] };
  });
  const order = (a: number[], b: number[]) => a.map((x, i) => x - b[i]!).find((d) => d !== 0) ?? 0;
  const winner = ranked.reduce((a, b) => (order(b.key, a.key) < 0 ? b : a));
  return { slowest: winner.key[0]!, sizes: winner.sizes };
}

const sizesOf = (ranges: readonly ShardRange[]) => ranges.map(({ from, to }) => to - from);

const time = fc.oneof(fc.integer({ min: 1, max: 12 }), fc.integer({ min: 1, max: 1_000_000_000 }));

describe("shards for workers of any speed", () => {
  test("the split is the best of all splits, by slowest worker, idle workers, tree nodes and evenness", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 9 }), fc.array(time, { minLength: 1, maxLength: 5 }), (shards, times) => {
        const expected = best(shards, times);
        expect(sizesOf(assignShards(shards, times))).toEqual(expected.sizes);
        expect(slowestOf(shards, times)).toBe(expected.slowest);
      }),
      { numRuns: 400 },
    );
  });

  test("every shard is given once, whatever the numbers, and no worker has more than the slowest bound allows", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 700 }),
        fc.array(time, { minLength: 1, maxLength: 24 }),
        (shards, times) => {
          const ranges = assignShards(shards, times);
          expect(ranges).toHaveLength(times.length);
          expectCover(shards, ranges);
          const bound = slowestOf(shards, times);
          for (const [i, size] of sizesOf(ranges).entries()) expect(size * times[i]!).toBeLessThanOrEqual(bound);
        },
      ),
      { numRuns: 60 },
    );
  });

  test.each<[string, number, number[], number[]]>([
    ["equal workers get whole sub-trees", 8, [5, 5, 5, 5], [2, 2, 2, 2]],
    ["three equal workers get five nodes, not six", 8, [5, 5, 5], [3, 3, 2]],
    ["all help where that costs nothing", 8, [5, 5, 5, 5, 5], [2, 2, 2, 1, 1]],
    ["a worker of half the speed gets half as much", 6, [10, 20], [4, 2]],
    ["a worker that would only hold the others up gets nothing", 8, [10, 10, 900], [4, 4, 0]],
    ["more workers than shards", 2, [7, 7, 7], [1, 1, 0]],
    ["one worker", 8, [123], [8]],
  ])("%s", (_name, shards, times, sizes) => {
    expect(sizesOf(assignShards(shards, times))).toEqual(sizes);
  });
});
