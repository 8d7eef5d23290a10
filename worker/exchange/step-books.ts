import type { NodeBuffer } from "../compute/step.ts";
import type { Segments } from "./segments.ts";

/** What one member still owes us in a step, and what came, in blocks. */
export interface OwedBlocks {
  partials: number;
  reduced: number;
  received: number;
}

/**
 * What one step of a view has received at one member, and what is finished. Blocks are marked one by one, so that
 * pieces may come in any order, twice, and cut differently. Pure, and reused from step to step.
 */
export class StepBooks {
  step = -1;
  /** Own maximal nodes, once the first bucket of them is computed. */
  own: readonly NodeBuffer[] | null = null;
  /** By owner. */
  readonly owed: OwedBlocks[];
  private readonly segments: Segments;
  /** Own blocks of each foreign node. */
  private readonly partials: readonly Uint8Array[];
  private readonly reduced: Uint8Array;
  private reducedMissing = 0;
  /** By bucket: partial blocks of all foreign nodes still missing, own nodes ready, segment summed. */
  private readonly missing: number[];
  private readonly ready: boolean[];
  private readonly summed: boolean[];
  private readonly nodesOf: readonly number[];

  constructor(segments: Segments) {
    this.segments = segments;
    this.partials = segments.foreign.map(() => new Uint8Array(segments.ownBlocks));
    this.reduced = new Uint8Array(segments.vectorBlocks);
    this.nodesOf = segments.owners.map((_, owner) => segments.foreign.filter((node) => node.owner === owner).length);
    this.owed = segments.owners.map(() => ({ partials: 0, reduced: 0, received: 0 }));
    this.missing = segments.buckets.map(() => 0);
    this.ready = segments.buckets.map(() => false);
    this.summed = segments.buckets.map(() => false);
  }

  /** Forgets everything and keeps the books of `step`. */
  open(step: number): void {
    const { segments } = this;
    this.step = step;
    this.own = null;
    for (const marks of this.partials) marks.fill(0);
    this.reduced.fill(0);
    this.reducedMissing = segments.vectorBlocks;
    this.ready.fill(false);
    this.summed.fill(false);
    for (const { index } of segments.buckets) {
      const { from, to } = segments.own(index);
      this.missing[index] = (to - from) * segments.foreign.length;
    }
    this.owed.forEach((owed, owner) => {
      owed.partials = this.nodesOf[owner]! * segments.ownBlocks;
      owed.reduced = segments.reducedBy(owner);
      owed.received = 0;
    });
  }

  /** Blocks of a piece that are not in yet; a piece without any is a repetition. */
  newPartials(node: number, first: number, blocks: number): number {
    return unmarked(this.partials[node]!, first, blocks);
  }

  newReduced(first: number, blocks: number): number {
    return unmarked(this.reduced, first, blocks);
  }

  /** @param first within this member's own segments (Segments.ownOffset) */
  markPartial(node: number, bucket: number, first: number, blocks: number): void {
    const fresh = mark(this.partials[node]!, first, blocks);
    this.missing[bucket]! -= fresh;
    const owed = this.owed[this.segments.foreign[node]!.owner]!;
    owed.partials -= fresh;
    owed.received += fresh;
  }

  markReduced(owner: number, first: number, blocks: number): void {
    const fresh = mark(this.reduced, first, blocks);
    this.reducedMissing -= fresh;
    const owed = this.owed[owner]!;
    owed.reduced -= fresh;
    owed.received += fresh;
  }

  markReady(bucket: number): void {
    this.ready[bucket] = true;
  }

  /** True once: when all nodes of this member's segment of the bucket are there. */
  takeSummable(bucket: number): boolean {
    if (this.summed[bucket] || !this.ready[bucket] || this.missing[bucket]! > 0) return false;
    this.summed[bucket] = true;
    return true;
  }

  get complete(): boolean {
    return this.reducedMissing === 0;
  }
}

function unmarked(marks: Uint8Array, first: number, blocks: number): number {
  let count = 0;
  for (let block = first; block < first + blocks; block++) if (marks[block] === 0) count += 1;
  return count;
}

function mark(marks: Uint8Array, first: number, blocks: number): number {
  const fresh = unmarked(marks, first, blocks);
  marks.fill(1, first, first + blocks);
  return fresh;
}
