import { maximalNodes, type ShardRange } from "../../shared/plan/tree.ts";

/** A worker to be given shards. */
export interface Candidate {
  readonly host: string;
  /** Relative speed, above 0; equal workers have equal weights. */
  readonly weight: number;
}

/**
 * Contiguous shard ranges for workers in this order, shares following their weights (largest remainder), each at least
 * one shard. Among equally fair splits the one with the fewest tree nodes is taken, since every node costs a transfer.
 *
 * @returns one range for each of the first min(workers, V) candidates; the rest is standby
 */
export function assignShards(shards: number, candidates: readonly Candidate[]): ShardRange[] {
  const used = candidates.slice(0, shards);
  if (used.length === 0) return [];
  const sizes = shares(shards, used);
  let best = rangesOf(sizes);
  let cost = nodeCount(shards, best);
  // Equal weights may swap their sizes: rotations are enough to find whole sub-trees.
  if (used.every((c) => c.weight === used[0]!.weight)) {
    for (let turn = 1; turn < sizes.length; turn++) {
      const rotated = rangesOf([...sizes.slice(turn), ...sizes.slice(0, turn)]);
      const rotatedCost = nodeCount(shards, rotated);
      if (rotatedCost < cost) [best, cost] = [rotated, rotatedCost];
    }
  }
  return best;
}

function shares(shards: number, candidates: readonly Candidate[]): number[] {
  const total = candidates.reduce((sum, c) => sum + c.weight, 0);
  const spare = shards - candidates.length;
  const ideal = candidates.map((c) => (c.weight / total) * shards);
  const sizes = ideal.map((share) => 1 + Math.max(0, Math.min(spare, Math.floor(share) - 1)));
  let rest = shards - sizes.reduce((sum, size) => sum + size, 0);
  while (rest !== 0) {
    const direction = Math.sign(rest);
    const eligible = sizes.map((_, i) => i).filter((i) => direction > 0 || sizes[i]! > 1);
    const at = eligible.reduce((a, b) =>
      (ideal[b]! - sizes[b]!) * direction > (ideal[a]! - sizes[a]!) * direction ? b : a,
    );
    sizes[at]! += direction;
    rest -= direction;
  }
  return sizes;
}

function rangesOf(sizes: readonly number[]): ShardRange[] {
  let from = 0;
  return sizes.map((size) => {
    const range = { from, to: from + size };
    from = range.to;
    return range;
  });
}

const nodeCount = (shards: number, ranges: readonly ShardRange[]) =>
  ranges.reduce((sum, range) => sum + maximalNodes(shards, range).length, 0);
