import { BLOCK, type Bucket, type Layout } from "../../shared/model/layout.ts";
import type { ShardRange } from "../../shared/plan/tree.ts";
import type { Incarnation, View } from "../../shared/protocol/view.ts";
import type { Arithmetic } from "../arithmetic/arithmetic.ts";
import type { NodeBuffer } from "../compute/step.ts";
import { copyBytes } from "../memory/copy-bytes.ts";
import { type HashedVector, ofStep } from "../memory/plan.ts";
import { touch } from "../memory/touch.ts";
import { type Chunk, MAX_BLOCKS, type WireFormat } from "./chunk.ts";
import type { ReceiveSpace } from "./receive-space.ts";
import { type BlockRange, Segments } from "./segments.ts";
import { StepBooks } from "./step-books.ts";

/**
 * What became of a piece. `repeated`: all of it was there already. `refused`: no piece of this view looks like that.
 * `corrupt`: its floats do not have the hashes that came with them. `summed`: it was the last one for these buckets.
 */
export type Outcome =
  | { readonly kind: "taken"; readonly summed: readonly Bucket[] }
  | { readonly kind: "repeated" }
  | { readonly kind: "refused" }
  | { readonly kind: "corrupt"; readonly from: Incarnation };

export interface ReductionParts {
  readonly view: View;
  readonly self: Incarnation;
  readonly layout: Layout;
  readonly shards: number;
  readonly arithmetic: Arithmetic;
  readonly reduced: readonly [HashedVector, HashedVector];
  readonly wire: WireFormat;
  readonly space: ReceiveSpace;
  /** Bytes of scratch: SCRATCH_BYTES. */
  readonly scratch: number;
}

const BYTES = BLOCK * 4;
/** Blocks that are summed and hashed at a time, so that intermediate sums stay in the core's cache. */
const TILE = 8;
/** A bfloat16 payload, and a table of hashes behind it. */
const TABLE_AT = MAX_BLOCKS * BLOCK * 2;
export const SCRATCH_BYTES = TABLE_AT + MAX_BLOCKS * 8;

/**
 * The reduction of one view at one member, without I/O: where arriving pieces go, what is missing, and the sums of the
 * member's own segments in tree order. Two steps may be under way at once, since a peer can be one ahead; who may write
 * into which reduced vector is the caller's to decide (StepGate).
 */
export class ViewReduction {
  readonly view: View;
  readonly segments: Segments;
  private readonly arithmetic: Arithmetic;
  private readonly vectors: readonly [HashedVector, HashedVector];
  private readonly wire: WireFormat;
  private readonly space: ReceiveSpace;
  private readonly scratch: number;
  /** Partials: of both parities, of each foreign node, this member's own segments. */
  private readonly address: number;
  private readonly books: readonly [StepBooks, StepBooks];
  private readonly self: Incarnation;

  constructor(parts: ReductionParts) {
    this.view = parts.view;
    this.self = parts.self;
    this.segments = new Segments(parts.view, parts.self, parts.layout, parts.shards);
    this.arithmetic = parts.arithmetic;
    this.vectors = parts.reduced;
    this.wire = parts.wire;
    this.space = parts.space;
    this.scratch = parts.scratch;
    this.books = [new StepBooks(this.segments), new StepBooks(this.segments)];
    const bytes = 2 * this.segments.foreign.length * this.segments.ownBlocks * BYTES;
    this.address = parts.space.take(bytes);
    // A planned view is opened while its predecessor computes: pages are cheaper now than in its first step.
    touch(parts.arithmetic.memory, [{ address: this.address, bytes }]);
  }

  release(): void {
    this.space.give(this.address);
  }

  vectorOf(step: number): HashedVector {
    return ofStep(this.vectors, step);
  }

  wireOf(bucket: Bucket): WireFormat {
    return bucket.compressible ? this.wire : "float32";
  }

  /** Own nodes of these buckets are computed. */
  setOwn(step: number, nodes: readonly NodeBuffer[], buckets: readonly Bucket[]): Outcome {
    const books = this.at(step);
    books.own = nodes;
    for (const { index } of buckets) books.markReady(index);
    return this.sum(books, buckets);
  }

  /** Everything that came is void. */
  forget(): void {
    for (const books of this.books) books.step = -1;
  }

  /** Takes a piece of a node of `from` that belongs to this member's segments. */
  partial(chunk: Chunk, from: Incarnation): Outcome {
    const { segments } = this;
    const { nodeFrom, nodeTo, firstBlock, blocks } = chunk;
    const node = segments.foreign.findIndex(
      ({ range, owner }) => range.from === nodeFrom && range.to === nodeTo && segments.owners[owner] === from,
    );
    const bucket = segments.bucketHolding({ from: firstBlock, to: firstBlock + blocks }, segments.self);
    if (node < 0 || bucket === null || chunk.wire !== this.wireOf(bucket)) return { kind: "refused" };
    const books = this.at(chunk.step);
    const first = segments.ownOffset(bucket.index) + firstBlock - segments.own(bucket.index).from;
    const fresh = books.newPartials(node, first, blocks);
    if (fresh === 0) return { kind: "repeated" };
    // A piece in parts old and new is not how members cut; a sum may already have been made in the old part's place.
    if (fresh < blocks) return { kind: "refused" };
    const target = this.partialAddress(chunk.step, node) + first * BYTES;
    if (!this.store(chunk, target, this.scratch + TABLE_AT)) return { kind: "corrupt", from };
    books.markPartial(node, bucket.index, first, blocks);
    return this.sum(books, [bucket]);
  }

  /** Takes a piece of the reduced vector from the owner of that segment. */
  reducedPiece(chunk: Chunk, from: Incarnation): Outcome {
    const { firstBlock, blocks } = chunk;
    const owner = this.segments.owners.indexOf(from);
    const bucket = this.segments.bucketHolding({ from: firstBlock, to: firstBlock + blocks }, owner);
    if (bucket === null || chunk.wire !== this.wireOf(bucket)) return { kind: "refused" };
    const books = this.at(chunk.step);
    const fresh = books.newReduced(firstBlock, blocks);
    if (fresh === 0) return { kind: "repeated" };
    if (fresh < blocks) return { kind: "refused" };
    const { address, table } = this.vectorOf(chunk.step);
    if (!this.store(chunk, address + firstBlock * BYTES, table + firstBlock * 8)) return { kind: "corrupt", from };
    books.markReduced(owner, firstBlock, blocks);
    return { kind: "taken", summed: [] };
  }

  isComplete(step: number): boolean {
    const books = this.booksOf(step);
    return books.step === step && books.complete;
  }

  /** Bytes of this step still owed by each other owner (partials of our segments; its reduced segments), and received. */
  owed(step: number): {
    readonly incarnation: Incarnation;
    readonly partials: number;
    readonly reduced: number;
    readonly received: number;
  }[] {
    const books = this.booksOf(step);
    if (books.step > step) return [];
    if (books.step < step) books.open(step);
    return this.segments.owners.flatMap((incarnation, owner) => {
      const { partials, reduced, received } = books.owed[owner]!;
      if (incarnation === this.self) return [];
      return [{ incarnation, partials: partials * BYTES, reduced: reduced * BYTES, received: received * BYTES }];
    });
  }

  private booksOf(step: number): StepBooks {
    return ofStep(this.books, step);
  }

  private at(step: number): StepBooks {
    const books = this.booksOf(step);
    if (books.step !== step) books.open(step);
    return books;
  }

  /** Writes the payload to `target`, hashes what lies there into `table`, and compares with the hashes that came. */
  private store(chunk: Chunk, target: number, table: number): boolean {
    const { arithmetic, scratch } = this;
    const floats = chunk.blocks * BLOCK;
    const bytes = Buffer.from(arithmetic.memory.buffer);
    copyBytes(bytes, chunk.wire === "bf16" ? scratch : target, chunk.payload);
    if (chunk.wire === "bf16") arithmetic.unpackBf16(target, scratch, floats);
    arithmetic.blockHashes(target, floats, table);
    return chunk.hashes.equals(bytes.subarray(table, table + chunk.hashes.length));
  }

  private partialAddress(step: number, node: number): number {
    const { foreign, ownBlocks } = this.segments;
    return this.address + ((step % 2) * foreign.length + node) * ownBlocks * BYTES;
  }

  /** Sums this member's segments of those of `buckets` for which everything is there. */
  private sum(books: StepBooks, buckets: readonly Bucket[]): Outcome {
    const summed: Bucket[] = [];
    for (const bucket of buckets) {
      if (books.own === null || !books.takeSummable(bucket.index)) continue;
      const segment = this.segments.own(bucket.index);
      if (segment.from === segment.to) continue;
      for (let from = segment.from; from < segment.to; from += TILE) {
        const tile = { from, to: Math.min(segment.to, from + TILE) };
        if (!this.sumTile(books, bucket, tile)) return { kind: "corrupt", from: this.self };
      }
      books.markReduced(this.segments.self, segment.from, segment.to - segment.from);
      summed.push(bucket);
    }
    return { kind: "taken", summed };
  }

  /** False where one of this member's own nodes has changed since its hashes were taken. */
  private sumTile(books: StepBooks, bucket: Bucket, tile: BlockRange): boolean {
    const { arithmetic, segments } = this;
    const own = books.own!;
    if (!own.every((node) => this.isSound(node, tile))) return false;
    const vector = this.vectorOf(books.step);
    const result = vector.address + tile.from * BYTES;
    const floats = (tile.to - tile.from) * BLOCK;
    const add = this.wireOf(bucket) === "bf16" ? arithmetic.addBf16 : arithmetic.add;
    const offset = segments.ownOffset(bucket.index) + tile.from - segments.own(bucket.index).from;
    const stack: number[] = [];
    for (const [i, operation] of segments.program.entries()) {
      if (operation.kind === "push") {
        stack.push(this.nodeAddress(books, operation.node, tile, offset));
        continue;
      }
      const right = stack.pop()!;
      const left = stack.pop()!;
      // An inner sum takes the place of its left operand, which nobody needs any more.
      const into = i === segments.program.length - 1 ? result : left;
      add(into, left, right, floats);
      stack.push(into);
    }
    if (stack[0] !== result) arithmetic.copy(result, stack[0]!, floats * 4);
    arithmetic.blockHashes(result, floats, vector.table + tile.from * 8);
    return true;
  }

  private isSound(node: NodeBuffer, tile: BlockRange): boolean {
    const { arithmetic, scratch } = this;
    const blocks = tile.to - tile.from;
    arithmetic.blockHashes(node.address + tile.from * BYTES, blocks * BLOCK, scratch + TABLE_AT);
    const memory = Buffer.from(arithmetic.memory.buffer);
    const expected = node.table + tile.from * 8;
    return (
      memory.compare(memory, expected, expected + blocks * 8, scratch + TABLE_AT, scratch + TABLE_AT + blocks * 8) === 0
    );
  }

  private nodeAddress(books: StepBooks, node: ShardRange, tile: BlockRange, offset: number): number {
    const own = books.own!.find(({ range }) => range.from === node.from && range.to === node.to);
    if (own !== undefined) return own.address + tile.from * BYTES;
    const index = this.segments.foreign.findIndex(({ range }) => range.from === node.from && range.to === node.to);
    return this.partialAddress(books.step, index) + offset * BYTES;
  }
}
