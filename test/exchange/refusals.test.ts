import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { BLOCK } from "../../shared/model/layout.ts";
import type { View } from "../../shared/protocol/view.ts";
import { memberClient } from "../../shared/rpc/clients.ts";
import { type ChunkHeader, parseChunk, textChunk } from "../../worker/exchange/chunk.ts";
import { blocksOf, chunkFrom, FakePeer } from "./fake-peer.ts";
import {
  bytesOf,
  computeNodes,
  gradientsOf,
  incarnationOf,
  type MemberOptions,
  rangesAt,
  referenceSum,
  startMember,
  type TestMember,
  testLayout,
  trailerOf,
  viewOf,
} from "./support.ts";

/** What no sound member sends is refused and counted, and never written. */

const options: MemberOptions = { layout: testLayout(5000, 8192), shards: 8 };
const { layout } = options;
const halves = rangesAt(8, [4]);
const gradients = gradientsOf(layout, 8, 4, "float32");
const sum = referenceSum(gradients, layout, "float32");
const lower = referenceSum(gradients.slice(0, 4), layout, "float32");

let me: TestMember;
let peer: FakePeer;
let view: View;

/** The peer owns shards 0..4 and the first segment of each bucket; this member the rest. */
beforeEach(async () => {
  me = await startMember(1, options);
  peer = new FakePeer(incarnationOf(0));
  await peer.start();
  view = viewOf([peer, me], halves);
});

afterEach(() => {
  me.stop();
  peer.stop();
});

const scratch = () => me.plan.nodes[3]!.address;
const chunk = (
  vector: Float32Array,
  header: Pick<ChunkHeader, "kind" | "firstBlock" | "blocks"> & Partial<ChunkHeader>,
) => chunkFrom(vector, { view: view.id, step: 4, ...header }, me.arithmetic, scratch());

/** All pieces that the peer of a sound view would send: its node of our segments, its reduced segments. */
function* soundPieces(of: View): Generator<Buffer> {
  for (const bucket of layout.buckets) {
    const blocks = (bucket.to - bucket.from) / BLOCK;
    const middle = bucket.from / BLOCK + Math.floor(blocks / 2);
    const header = { view: of.id, step: 4 };
    if (middle < bucket.to / BLOCK) {
      const own = { kind: "partial", nodeTo: 4, firstBlock: middle, blocks: bucket.to / BLOCK - middle } as const;
      yield chunkFrom(lower, { ...header, ...own }, me.arithmetic, scratch());
    }
    if (middle > bucket.from / BLOCK) {
      const theirs = {
        kind: "reduced",
        firstBlock: bucket.from / BLOCK,
        blocks: middle - bucket.from / BLOCK,
      } as const;
      yield chunkFrom(sum, { ...header, ...theirs }, me.arithmetic, scratch());
    }
  }
}

/** This member opens a view and begins step 4 in it. */
function enter(of: View): void {
  me.exchange.openView(of);
  me.exchange.begin(of.id, 4);
}

function publishNodes(of: View): void {
  me.exchange.publishNodes(of.id, 4, computeNodes(me, options, { from: 4, to: 8 }, gradients));
}

/** Waits until everything that the peer sent before has been read: text is handled in order. */
async function settle(of: View = view): Promise<void> {
  const mark = 1_000_000 + me.events.length;
  await peer.send(of.id, textChunk("active", of.id, mark, {}));
  await me.waitFor("active", ({ step }) => step === mark);
}

const memoryOf = () => Buffer.from(new Uint8Array(me.memory.buffer)).toString("latin1");

describe("a member", () => {
  it("takes nothing that its view does not have: nodes, segments, sizes, formats, steps", async () => {
    enter(view);
    const bucket = layout.buckets[0]!;
    const first = bucket.from / BLOCK;
    const own = first + 1;
    const wrong: Buffer[] = [
      chunk(lower, { kind: "partial", nodeFrom: 0, nodeTo: 2, firstBlock: own, blocks: 1 }), // not a node of the peer's range
      chunk(lower, { kind: "partial", nodeFrom: 4, nodeTo: 8, firstBlock: own, blocks: 1 }), // our own node
      chunk(lower, { kind: "partial", nodeFrom: 0, nodeTo: 4, firstBlock: first, blocks: 1 }), // the peer's own segment
      chunk(lower, { kind: "partial", nodeFrom: 0, nodeTo: 4, firstBlock: first, blocks: 2 }), // across segments
      chunk(lower, { kind: "partial", nodeFrom: 0, nodeTo: 4, firstBlock: own, blocks: 1, step: 6 }), // two steps ahead
      chunk(sum, { kind: "reduced", firstBlock: own, blocks: 1 }), // our segment
      chunk(sum, { kind: "reduced", firstBlock: first, blocks: 2 }), // across segments
      chunk(sum, { kind: "reduced", firstBlock: blocksOf(layout) - 1, blocks: 1, wire: "bf16" }), // statistics in bfloat16
    ];
    // Beyond the vector: laid out by hand, since there is nothing to cut it from.
    const beyond = chunk(sum, { kind: "reduced", firstBlock: first, blocks: 1 });
    wrong.push(
      chunkFrom(
        new Float32Array((blocksOf(layout) + 9) * BLOCK),
        { kind: "reduced", view: view.id, step: 4, firstBlock: blocksOf(layout) + 3, blocks: 1 },
        me.arithmetic,
        scratch(),
      ),
    );
    const before = memoryOf();
    for (const buffer of wrong) await peer.send(view.id, buffer);
    await settle();
    expect(me.exchange.chunksRefused).toBe(wrong.length);
    expect(memoryOf() === before).toBe(true);
    expect(me.exchange.owed(view.id, 4)[0]!.received).toBe(0);
    await peer.send(view.id, beyond);
    await settle();
    expect(me.exchange.owed(view.id, 4)[0]!.received).toBe(BLOCK * 4);
    expect(me.events.every(({ kind }) => kind === "active")).toBe(true);
  });

  it("drops the stream after a chunk of another view or a malformed one, and opens it again", async () => {
    enter(view);
    await peer.send(view.id, chunk(sum, { kind: "reduced", firstBlock: 0, blocks: 1, view: { term: 1, number: 9 } }));
    await peer.call(view.id, 1);
    const broken = chunk(sum, { kind: "reduced", firstBlock: 0, blocks: 1 });
    broken[9]! ^= 4;
    await peer.send(view.id, broken);
    await peer.call(view.id, 2);
    await peer.send(view.id, textChunk("trailer", view.id, 4, { not: "a trailer" }));
    await peer.call(view.id, 3);
    // A trailer in another member's name.
    await peer.send(view.id, textChunk("trailer", view.id, 4, trailerOf(view, me, 4)));
    await peer.call(view.id, 4);
    expect(me.exchange.chunksRefused).toBe(4);
    expect(me.events).toEqual([]);
  });

  it("names the sender of floats that do not have their hashes", async () => {
    enter(view);
    const own = layout.buckets[0]!.from / BLOCK + 1;
    const partial = chunk(lower, { kind: "partial", nodeFrom: 0, nodeTo: 4, firstBlock: own, blocks: 1 });
    partial[partial.length - 100]! ^= 1;
    await peer.send(view.id, partial);
    expect(await me.waitFor("corrupt")).toEqual({ kind: "corrupt", view: view.id, step: 4, from: peer.self });
    // It is not counted as received, and the sound piece is still taken.
    expect(me.exchange.owed(view.id, 4)[0]!.received).toBe(0);
    partial[partial.length - 100]! ^= 1;
    await peer.send(view.id, partial);
    await settle();
    expect(me.exchange.owed(view.id, 4)[0]!.received).toBe(BLOCK * 4);
  });

  it("finds a bit that flipped in its own node after its hashes were taken", async () => {
    enter(view);
    const nodes = computeNodes(me, options, { from: 4, to: 8 }, gradients);
    const own = layout.buckets[0]!.from / BLOCK + 1;
    new Uint8Array(me.memory.buffer)[nodes[0]!.address + own * BLOCK * 4 + 17]! ^= 1;
    me.exchange.publishNodes(view.id, 4, nodes);
    for (const piece of soundPieces(view)) await peer.send(view.id, piece);
    expect(await me.waitFor("corrupt")).toEqual({ kind: "corrupt", view: view.id, step: 4, from: me.self });
    await settle();
    expect(me.events.some(({ kind }) => kind === "reduced")).toBe(false);
  });

  it("takes pieces twice and in any order", async () => {
    enter(view);
    publishNodes(view);
    const pieces = [...soundPieces(view)].reverse();
    for (const piece of [...pieces, ...pieces]) await peer.send(view.id, piece);
    await settle();
    expect(bytesOf(me.reduced(4)).equals(bytesOf(sum))).toBe(true);
    expect(me.events.filter(({ kind }) => kind === "reduced").length).toBe(1);
    expect(me.exchange.chunksRefused).toBe(0);
  });

  it("lets nothing of an abandoned view reach the vector that its successor fills", async () => {
    const next = viewOf([peer, me], halves, 2);
    enter(view);
    publishNodes(view);
    enter(next);
    // The same step in the new view; the old one's pieces come late, from a member whose floats were wrong.
    const wrong = sum.map((value) => value + 1);
    publishNodes(next);
    for (const piece of soundPieces(next)) await peer.send(next.id, piece);
    await peer.send(view.id, chunk(wrong, { kind: "reduced", firstBlock: layout.buckets[0]!.from / BLOCK, blocks: 1 }));
    for (const piece of soundPieces(view)) await peer.send(view.id, piece);
    await settle(view);
    await settle(next);
    expect(me.events.filter(({ kind }) => kind === "reduced")).toEqual([{ kind: "reduced", view: next.id, step: 4 }]);
    expect(bytesOf(me.reduced(4)).equals(bytesOf(sum))).toBe(true);
  });

  it("holds back a successor's data of the step under way until it begins there", async () => {
    const next = viewOf([peer, me], halves, 2);
    enter(view);
    me.exchange.openView(next);
    const before = bytesOf(me.reduced(4)).toString("latin1");
    await peer.send(next.id, textChunk("active", next.id, 4, {}));
    for (const piece of soundPieces(next)) await peer.send(next.id, piece);
    await me.waitFor("active");
    await settle(view);
    expect(bytesOf(me.reduced(4)).toString("latin1") === before).toBe(true);
    me.exchange.begin(next.id, 4);
    publishNodes(next);
    await me.waitFor("reduced", (event) => event.view.number === 2);
    expect(bytesOf(me.reduced(4)).equals(bytesOf(sum))).toBe(true);
  });

  it("takes a node from the member that computes it, and from no other", async () => {
    const third = new FakePeer(incarnationOf(2));
    await third.start();
    // The third member owns shards 2..4: its node is not the first peer's to send.
    const wide = viewOf([peer, third, me], rangesAt(8, [2, 4]), 3);
    enter(wide);
    const bucket = layout.buckets.find(({ from, to }) => to - from >= 2 * BLOCK)!;
    const node = {
      kind: "partial",
      view: wide.id,
      nodeFrom: 2,
      nodeTo: 4,
      firstBlock: bucket.to / BLOCK - 1,
      blocks: 1,
    } as const;
    const partial = chunk(lower, node);
    await peer.send(wide.id, partial);
    await settle(wide);
    expect(me.exchange.chunksRefused).toBe(1);
    await third.send(wide.id, partial);
    await third.send(wide.id, textChunk("active", wide.id, 77, {}));
    await me.waitFor("active", ({ step }) => step === 77);
    expect(me.exchange.chunksRefused).toBe(1);
    third.stop();
  });

  it("asks again for what a successor had sent when another view takes its vector, and finishes it later", async () => {
    const [planned, other] = [viewOf([peer, me], halves, 2), viewOf([peer, me], halves, 3)];
    for (const opened of [view, planned, other]) me.exchange.openView(opened);
    me.exchange.begin(view.id, 3);
    for (const piece of soundPieces(planned)) await peer.send(planned.id, piece);
    await settle(planned);
    // The plan comes to nothing: an unplanned view begins at the step that the planned one had data of.
    me.exchange.begin(other.id, 4);
    await peer.call(planned.id, 1);
    expect(me.exchange.owed(planned.id, 4).every(({ received }) => received === 0)).toBe(true);
  });

  it("sends nothing of an abandoned view from node buffers that its successor overwrites", async () => {
    const next = viewOf([peer, me], halves, 2);
    enter(view);
    publishNodes(view);
    enter(next);
    // Only now does the peer call: in the old view it gets the news that the step began, and no partial.
    const kinds = async (of: View) => {
      const client = memberClient(me.address);
      const call = client.exchange({ run: "run", view: of.id, from: peer.self, to: me.self });
      call.on("error", () => {});
      const seen: string[] = [];
      call.on("data", (buffer: Buffer) => seen.push(parseChunk(buffer).kind));
      await vi.waitFor(() => expect(seen).toContain("trailer"));
      client.close();
      return seen;
    };
    me.exchange.publishTrailer(trailerOf(view, me, 4));
    expect(await kinds(view)).toEqual(["active", "trailer"]);
    publishNodes(next);
    me.exchange.publishTrailer(trailerOf(next, me, 4));
    expect(await kinds(next)).toContain("partial");
  });
});
