import { maximalNodes, type ShardRange } from "../../shared/plan/tree.ts";

/** Above this many shards the split is only fast, no longer the one of fewest tree nodes: the search is quadratic. */
const MOST_SEARCHED = 512;

/**
 * Contiguous shard ranges for workers in this order, so that the slowest of them is done as early as can be. Among the
 * splits that reach this, the one in which most workers help; among those the one of fewest tree nodes (each costs a
 * transfer, whole sub-trees cost one); among those the most even one; among those the one whose first ranges are
 * largest. A worker that would only hold the others up gets no shards.
 *
 * @param times microseconds of one shard at each worker, whole and above 0
 * @returns one range for each worker; those without shards have [V, V)
 */
export function assignShards(shards: number, times: readonly number[]): ShardRange[] {
  if (times.length === 0) return [];
  const bound = slowestOf(shards, times);
  const most = times.map((time) => Math.min(shards, Math.floor(bound / time)));
  return rangesOf(shards, shards <= MOST_SEARCHED ? search(shards, times, most) : fill(shards, most));
}

/** The time of the best split's slowest worker, in the unit of `times`: the smallest bound under which all fits. */
export function slowestOf(shards: number, times: readonly number[]): number {
  const fits = (bound: number) => {
    let room = 0;
    for (const time of times) room += Math.floor(bound / time);
    return room >= shards;
  };
  // Times are whole, and what fits changes at multiples of them only: the smallest whole bound is the smallest of all.
  let [low, high] = [1, shards * Math.min(...times)];
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    if (fits(middle)) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** Cost of a split in the order of its importance: workers without shards, tree nodes, unevenness. */
type Cost = readonly [number, number, number];
const less = (a: Cost, b: Cost) => (a[0] - b[0] || a[1] - b[1] || a[2] - b[2]) < 0;

/** Exact dynamic programme over (worker, first shard), from the last worker to the first. */
function search(shards: number, times: readonly number[], most: readonly number[]): number[] {
  const nodes = nodeCounter(shards);
  // best[from]: cheapest way for workers `at` and later to take the shards from `from` on.
  let best: (Cost | null)[] = Array.from({ length: shards + 1 }, (_, from) => (from === shards ? [0, 0, 0] : null));
  const chosen: Int32Array[] = [];
  for (let at = times.length - 1; at >= 0; at--) {
    const next = best;
    const sizes = new Int32Array(shards + 1).fill(-1);
    best = next.map((_, from) => {
      let cheapest: Cost | null = null;
      for (let size = Math.min(most[at]!, shards - from); size >= 0; size--) {
        const rest = next[from + size];
        if (rest === null || rest === undefined) continue;
        const cost: Cost = [
          rest[0] + (size === 0 ? 1 : 0),
          rest[1] + nodes(from, from + size),
          rest[2] + size * size * times[at]!,
        ];
        if (cheapest !== null && !less(cost, cheapest)) continue;
        cheapest = cost;
        sizes[from] = size;
      }
      return cheapest;
    });
    chosen.unshift(sizes);
  }
  let from = 0;
  return chosen.map((sizes) => {
    const size = sizes[from]!;
    from += size;
    return size;
  });
}

function nodeCounter(shards: number): (from: number, to: number) => number {
  const known = new Map<number, number>();
  return (from, to) => {
    const key = from * (shards + 1) + to;
    const count = known.get(key) ?? maximalNodes(shards, { from, to }).length;
    known.set(key, count);
    return count;
  };
}

/** In proportion to what each could take. */
function fill(shards: number, most: readonly number[]): number[] {
  const room = most.reduce((sum, size) => sum + size, 0);
  let [given, seen] = [0, 0];
  return most.map((size) => {
    seen += size;
    const upTo = Math.floor((seen * shards) / room);
    const mine = upTo - given;
    given = upTo;
    return mine;
  });
}

function rangesOf(shards: number, sizes: readonly number[]): ShardRange[] {
  let from = 0;
  return sizes.map((size) => {
    if (size === 0) return { from: shards, to: shards };
    const range = { from, to: from + size };
    from = range.to;
    return range;
  });
}
