import { BLOCK, type Bucket, type Layout, segmentOf } from "../../shared/model/layout.ts";
import { finishingOrder, maximalNodes, type ShardRange, sizeOf, type TreeOperation } from "../../shared/plan/tree.ts";
import { type Incarnation, ownersOf, type View } from "../../shared/protocol/view.ts";
import type { Arithmetic } from "../arithmetic/arithmetic.ts";
import type { NodeBuffer } from "../compute/step.ts";
import type { HashedVector } from "../memory/plan.ts";
import type { Chunk } from "./chunk.ts";
import type { ReceiveSpace } from "./receive-space.ts";

interface ForeignNode {
  readonly range: ShardRange;
  readonly owner: Incarnation;
}

/** What one step of a view has received, and what is finished. */
interface StepBooks {
  readonly step: number;
  /** Own maximal nodes, once computed. */
  own: readonly NodeBuffer[] | null;
  /** Blocks of each foreign node, by node index, that lie in our segments. */
  readonly partials: Uint8Array[];
  /** Blocks of the reduced vector that are in. */
  readonly reduced: Uint8Array;
  reducedCount: number;
  /** Buckets whose own segment is summed. */
  readonly summed: boolean[];
  /** Blocks still missing, by bucket, over all foreign nodes. */
  readonly missing: number[];
}

export type Received = { readonly kind: "fine" } | { readonly kind: "ignored" } | { readonly kind: "corrupt" };

/**
 * The reduction of one view at one member, without I/O: where arriving pieces go, what is missing, and the sums of the
 * member's own segments in tree order. Partials of two steps may be under way at once, since a peer can be one ahead.
 */
export class ViewReduction {
  readonly view: View;
  readonly self: Incarnation;
  private readonly layout: Layout;
  private readonly arithmetic: Arithmetic;
  private readonly vectors: readonly [HashedVector, HashedVector];
  private readonly bf16: boolean;
  private readonly foreign: readonly ForeignNode[];
  private readonly program: readonly TreeOperation[];
  private readonly segments: readonly { readonly from: number; readonly to: number; readonly offset: number }[];
  private readonly segmentFloats: number;
  private readonly space: ReceiveSpace;
  private readonly address: number;
  private readonly books: [StepBooks | null, StepBooks | null] = [null, null];
  /** Index among the owners, or -1 for a member that owns nothing. */
  readonly ownIndex: number;
  readonly owners: readonly Incarnation[];

  constructor(parts: {
    view: View;
    self: Incarnation;
    layout: Layout;
    shards: number;
    arithmetic: Arithmetic;
    reduced: readonly [HashedVector, HashedVector];
    wire: "float32" | "bf16";
    space: ReceiveSpace;
  }) {
    const { view, self, layout, shards } = parts;
    this.view = view;
    this.self = self;
    this.layout = layout;
    this.arithmetic = parts.arithmetic;
    this.vectors = parts.reduced;
    this.bf16 = parts.wire === "bf16";
    this.space = parts.space;
    const owners = ownersOf(view);
    this.owners = owners.map((member) => member.incarnation);
    this.ownIndex = this.owners.indexOf(self);
    const nodes = owners.flatMap((m) => maximalNodes(shards, m.shards).map((range) => ({ range, owner: m.incarnation })));
    this.foreign = nodes.filter((node) => node.owner !== self);
    this.program = owners.length === 0 ? [] : finishingOrder(shards, nodes.map((node) => node.range));
    let offset = 0;
    this.segments = layout.buckets.map((bucket) => {
      const segment = this.ownIndex < 0 ? { from: bucket.from, to: bucket.from } : segmentOf(bucket, this.ownIndex, owners.length);
      const placed = { ...segment, offset };
      offset += segment.to - segment.from;
      return placed;
    });
    this.segmentFloats = offset;
    this.address = parts.space.take(2 * this.foreign.length * offset * 4);
  }

  release(): void {
    this.space.give(this.address);
  }

  get ownsSegments(): boolean {
    return this.ownIndex >= 0;
  }

  /** Our segment of a bucket, or any owner's. */
  segment(bucket: Bucket, owner = this.ownIndex): { readonly from: number; readonly to: number } {
    return owner < 0 ? { from: bucket.from, to: bucket.from } : segmentOf(bucket, owner, this.owners.length);
  }

  vectorOf(step: number): HashedVector {
    return this.vectors[step % 2 === 0 ? 0 : 1];
  }

  ownNodes(step: number): readonly NodeBuffer[] {
    return this.at(step).own ?? [];
  }

  /** Own nodes are computed; returns the buckets that can be summed now. */
  setOwn(step: number, nodes: readonly NodeBuffer[]): Bucket[] {
    this.at(step).own = nodes;
    return this.layout.buckets.filter((bucket) => this.sumIfComplete(step, bucket));
  }

  /** Takes a peer's piece of a partial; `summed` is the bucket whose segment is finished by it. */
  partial(chunk: Chunk): { readonly received: Received; readonly summed: Bucket | null } {
    const ignored = { received: { kind: "ignored" }, summed: null } as const;
    const node = this.foreign.findIndex((n) => n.range.from === chunk.nodeFrom && n.range.to === chunk.nodeTo);
    const bucket = this.bucketOf(chunk);
    if (node < 0 || bucket === null) return ignored;
    const segment = this.segments[bucket.index]!;
    const from = chunk.firstBlock * BLOCK;
    if (from < segment.from || from + chunk.blocks * BLOCK > segment.to || !this.accepts(chunk, bucket)) return ignored;
    const books = this.at(chunk.step);
    const marks = books.partials[node]!;
    const first = (segment.offset + from - segment.from) / BLOCK;
    if (marks[first] === 1) return ignored;
    const target = this.partialAddress(chunk.step, node) + first * BLOCK * 4;
    if (!this.store(chunk, target)) return { received: { kind: "corrupt" }, summed: null };
    marks.fill(1, first, first + chunk.blocks);
    books.missing[bucket.index]! -= chunk.blocks;
    return { received: { kind: "fine" }, summed: this.sumIfComplete(chunk.step, bucket) ? bucket : null };
  }

  /** Takes a piece of the reduced vector from the owner of that segment. */
  reducedPiece(chunk: Chunk, from: Incarnation): Received {
    const bucket = this.bucketOf(chunk);
    const owner = this.owners.indexOf(from);
    if (bucket === null || owner < 0 || !this.accepts(chunk, bucket)) return { kind: "ignored" };
    const segment = this.segment(bucket, owner);
    const at = chunk.firstBlock * BLOCK;
    if (at < segment.from || at + chunk.blocks * BLOCK > segment.to) return { kind: "ignored" };
    const books = this.at(chunk.step);
    if (books.reduced[chunk.firstBlock] === 1) return { kind: "ignored" };
    if (!this.store(chunk, this.vectorOf(chunk.step).address + at * 4)) return { kind: "corrupt" };
    this.markReduced(books, chunk.firstBlock, chunk.blocks);
    return { kind: "fine" };
  }

  isComplete(step: number): boolean {
    return this.at(step).reducedCount === this.layout.vectorFloats / BLOCK;
  }

  /** Bytes of this step still owed by each other owner: partials of our segments, then its reduced segments. */
  owed(step: number): { readonly incarnation: Incarnation; readonly partials: number; readonly reduced: number; readonly received: number }[] {
    const books = this.at(step);
    return this.owners
      .filter((owner) => owner !== this.self)
      .map((owner) => {
        const nodes = this.foreign.flatMap((node, i) => (node.owner === owner ? [books.partials[i]!] : []));
        const partials = nodes.reduce((sum, marks) => sum + marks.length - count(marks), 0);
        const index = this.owners.indexOf(owner);
        let reduced = 0;
        let total = 0;
        for (const bucket of this.layout.buckets) {
          const { from, to } = this.segment(bucket, index);
          total += (to - from) / BLOCK;
          for (let block = from / BLOCK; block < to / BLOCK; block++) if (books.reduced[block] === 0) reduced += 1;
        }
        const held = nodes.reduce((sum, marks) => sum + count(marks), 0) + total - reduced;
        const bytes = BLOCK * 4;
        return { incarnation: owner, partials: partials * bytes, reduced: reduced * bytes, received: held * bytes };
      });
  }

  private at(step: number): StepBooks {
    const parity = step % 2 === 0 ? 0 : 1;
    const known = this.books[parity];
    if (known?.step === step) return known;
    const blocks = this.layout.vectorFloats / BLOCK;
    const fresh: StepBooks = {
      step,
      own: null,
      partials: this.foreign.map(() => new Uint8Array(this.segmentFloats / BLOCK)),
      reduced: new Uint8Array(blocks),
      reducedCount: 0,
      summed: this.layout.buckets.map(() => false),
      missing: this.segments.map((s) => ((s.to - s.from) / BLOCK) * this.foreign.length),
    };
    this.books[parity] = fresh;
    return fresh;
  }

  /** The bucket that holds the whole chunk. */
  private bucketOf(chunk: Chunk): Bucket | null {
    const from = chunk.firstBlock * BLOCK;
    const to = from + chunk.blocks * BLOCK;
    return this.layout.buckets.find((bucket) => from >= bucket.from && to <= bucket.to) ?? null;
  }

  /** Steps that can be under way: not older than what has been replaced; formats as agreed. */
  private accepts(chunk: Chunk, bucket: Bucket): boolean {
    const known = this.books[chunk.step % 2 === 0 ? 0 : 1];
    if (known !== null && chunk.step < known.step) return false;
    return chunk.wire === (this.bf16 && bucket.compressible ? "bf16" : "float32");
  }

  /** Writes the payload to `target` and checks every block's hash there. */
  private store(chunk: Chunk, target: number): boolean {
    const { arithmetic } = this;
    const bytes = new Uint8Array(arithmetic.memory.buffer);
    if (chunk.wire === "bf16") unpack(chunk.payload, new Float32Array(arithmetic.memory.buffer, target, chunk.blocks * BLOCK));
    else bytes.set(chunk.payload, target);
    for (let block = 0; block < chunk.blocks; block++) {
      const hash = arithmetic.xxh64(target + block * BLOCK * 4, BLOCK * 4);
      if (hash !== chunk.hashes.readBigUInt64LE(block * 8)) return false;
    }
    return true;
  }

  private partialAddress(step: number, node: number): number {
    const parity = step % 2;
    return this.address + (parity * this.foreign.length + node) * this.segmentFloats * 4;
  }

  /** Sums our segment of a bucket once all nodes are there. True when it was finished now. */
  private sumIfComplete(step: number, bucket: Bucket): boolean {
    const books = this.at(step);
    const segment = this.segments[bucket.index]!;
    const floats = segment.to - segment.from;
    if (books.own === null || books.summed[bucket.index] || books.missing[bucket.index]! > 0) return false;
    books.summed[bucket.index] = true;
    if (floats === 0) return false;
    const { arithmetic } = this;
    const vector = this.vectorOf(step);
    const result = vector.address + segment.from * 4;
    const stack: number[] = [];
    this.program.forEach((operation, i) => {
      if (operation.kind === "push") return void stack.push(this.nodeAddress(step, operation.node, segment));
      const right = stack.pop()!;
      const left = stack.pop()!;
      const into = i === this.program.length - 1 ? result : left;
      if (this.bf16 && bucket.compressible) arithmetic.addBf16(into, left, right, floats);
      else arithmetic.add(into, left, right, floats);
      stack.push(into);
    });
    if (stack[0] !== result) arithmetic.copy(result, stack[0]!, floats * 4);
    arithmetic.blockHashes(result, floats, vector.table + (segment.from / BLOCK) * 8);
    this.markReduced(books, segment.from / BLOCK, floats / BLOCK);
    return true;
  }

  private nodeAddress(step: number, node: ShardRange, segment: { readonly from: number; readonly offset: number }): number {
    const own = this.at(step).own!.find(({ range }) => range.from === node.from && sizeOf(range) === sizeOf(node));
    if (own !== undefined) return own.address + segment.from * 4;
    const index = this.foreign.findIndex(({ range }) => range.from === node.from && range.to === node.to);
    return this.partialAddress(step, index) + segment.offset * 4;
  }

  private markReduced(books: StepBooks, first: number, blocks: number): void {
    for (let block = first; block < first + blocks; block++) {
      if (books.reduced[block] === 0) books.reducedCount += 1;
      books.reduced[block] = 1;
    }
  }
}

const count = (marks: Uint8Array) => marks.reduce((sum, mark) => sum + mark, 0);

function unpack(payload: Buffer, into: Float32Array): void {
  const words = new Uint32Array(into.buffer, into.byteOffset, into.length);
  for (let i = 0; i < into.length; i++) words[i] = payload.readUInt16LE(i * 2) << 16;
}
