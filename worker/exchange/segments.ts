import { BLOCK, type Bucket, type Layout, segmentOf } from "../../shared/model/layout.ts";
import { finishingOrder, maximalNodes, type ShardRange, type TreeOperation } from "../../shared/plan/tree.ts";
import { type Incarnation, ownersOf, type View } from "../../shared/protocol/view.ts";

/** A tree node that some member computes. */
export interface OwnedNode {
  readonly range: ShardRange;
  /** Index among the owners. */
  readonly owner: number;
}

/** Blocks [from, to) of the gradient vector. */
export interface BlockRange {
  readonly from: number;
  readonly to: number;
}

const blocksOf = (range: { readonly from: number; readonly to: number }): BlockRange => ({
  from: range.from / BLOCK,
  to: range.to / BLOCK,
});

/** Who computes and who reduces what in a view, as one member sees it. Pure. */
export class Segments {
  readonly owners: readonly Incarnation[];
  /** This member's index among the owners; -1 where it owns nothing. */
  readonly self: number;
  /** Maximal nodes of the other owners, in shard order. */
  readonly foreign: readonly OwnedNode[];
  /** How all nodes add up to the whole sum. */
  readonly program: readonly TreeOperation[];
  readonly buckets: readonly Bucket[];
  /** Blocks of one vector, and of this member's segments of it. */
  readonly vectorBlocks: number;
  readonly ownBlocks: number;
  private readonly table: readonly (readonly BlockRange[])[];
  private readonly offsets: readonly number[];
  private readonly bucketOfBlock: Uint32Array;

  constructor(view: View, self: Incarnation, layout: Layout, shards: number) {
    const members = ownersOf(view);
    this.owners = members.map((member) => member.incarnation);
    this.self = this.owners.indexOf(self);
    const nodes = members.flatMap((m, owner) => maximalNodes(shards, m.shards).map((range) => ({ range, owner })));
    this.foreign = nodes.filter(({ owner }) => owner !== this.self);
    const ranges = nodes.map(({ range }) => range);
    this.program = members.length === 0 ? [] : finishingOrder(shards, ranges);
    this.buckets = layout.buckets;
    this.table = layout.buckets.map((bucket) => members.map((_, i) => blocksOf(segmentOf(bucket, i, members.length))));
    let offset = 0;
    this.offsets = layout.buckets.map((_, bucket) => {
      const at = offset;
      const { from, to } = this.own(bucket);
      offset += to - from;
      return at;
    });
    this.ownBlocks = offset;
    this.vectorBlocks = layout.vectorFloats / BLOCK;
    this.bucketOfBlock = new Uint32Array(this.vectorBlocks);
    for (const { index, from, to } of layout.buckets) this.bucketOfBlock.fill(index, from / BLOCK, to / BLOCK);
  }

  /** The segment of a bucket that an owner reduces; empty for an index outside of the owners. */
  of(bucket: number, owner: number): BlockRange {
    return this.table[bucket]?.[owner] ?? { from: 0, to: 0 };
  }

  own(bucket: number): BlockRange {
    return this.of(bucket, this.self);
  }

  /** Where this member's segment of a bucket begins in a vector of its own segments, in blocks. */
  ownOffset(bucket: number): number {
    return this.offsets[bucket]!;
  }

  /** The bucket whose segment of `owner` holds all of these blocks; null where there is none. */
  bucketHolding(blocks: BlockRange, owner: number): Bucket | null {
    const bucket = this.buckets[this.bucketOfBlock[blocks.from] ?? -1];
    if (bucket === undefined) return null;
    const segment = this.of(bucket.index, owner);
    return blocks.from >= segment.from && blocks.to <= segment.to && blocks.from < blocks.to ? bucket : null;
  }

  /** Blocks of the whole vector that an owner reduces. */
  reducedBy(owner: number): number {
    return this.buckets.reduce((sum, { index }) => {
      const { from, to } = this.of(index, owner);
      return sum + to - from;
    }, 0);
  }
}
