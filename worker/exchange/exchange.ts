import type { Layout } from "../../shared/model/layout.ts";
import { BLOCK } from "../../shared/model/layout.ts";
import type { LedgerEntry, Trailer } from "../../shared/protocol/trailer.ts";
import type { Incarnation, View, ViewId } from "../../shared/protocol/view.ts";
import type { Arithmetic } from "../arithmetic/arithmetic.ts";
import type { NodeBuffer } from "../compute/step.ts";
import type { MemoryPlan } from "../memory/plan.ts";
import { type Chunk, parseChunk, textChunk } from "./chunk.ts";
import { Inbound, viewKey } from "./inbound.ts";
import { Outbox, type Sink } from "./outbox.ts";
import { ReceiveSpace } from "./receive-space.ts";
import { trailerSchema } from "./trailer-schema.ts";
import { ViewReduction } from "./view-reduction.ts";

export interface ExchangeOptions {
  readonly run: string;
  readonly self: Incarnation;
  readonly layout: Layout;
  readonly shards: number;
  readonly wire: "float32" | "bf16";
  readonly memory: WebAssembly.Memory;
  readonly plan: MemoryPlan;
  readonly arithmetic: Arithmetic;
  readonly redialFirst: number;
  readonly redialMax: number;
}

export type ExchangeEvent =
  | { readonly kind: "trailer"; readonly trailer: Trailer }
  | { readonly kind: "active"; readonly view: ViewId; readonly step: number }
  | { readonly kind: "reduced"; readonly view: ViewId; readonly step: number }
  | { readonly kind: "corrupt"; readonly view: ViewId; readonly step: number; readonly from: Incarnation }
  | { readonly kind: "lost"; readonly view: ViewId; readonly peer: Incarnation; readonly refused: boolean };

interface OpenView {
  readonly view: View;
  readonly reduction: ViewReduction;
  readonly outboxes: Map<Incarnation, Outbox>;
  readonly inbounds: Inbound[];
  readonly completed: Set<number>;
}

/** A peer's call for a view that we do not know yet, and until when we hold it. */
interface Held {
  readonly key: string;
  readonly from: Incarnation;
  readonly sink: Sink;
}

const MOST_HELD = 256;

/**
 * Reduce-scatter and all-gather among the members of a view, over the streams that each receiver opened: partials of a
 * segment go to its owner, the owner's sum goes to all, trailers follow. Views are opened ahead and closed late.
 */
export class Exchange {
  private readonly options: ExchangeOptions;
  private readonly space: ReceiveSpace;
  private readonly views = new Map<string, OpenView>();
  private held: Held[] = [];
  private readonly onEvent: (event: ExchangeEvent) => void;
  bytesReceived = 0;
  chunksRefused = 0;

  constructor(options: ExchangeOptions, onEvent: (event: ExchangeEvent) => void) {
    this.options = options;
    this.onEvent = onEvent;
    this.space = new ReceiveSpace(options.memory, options.plan.receive.address);
  }

  openView(view: View): void {
    const key = viewKey(view.id);
    if (this.views.has(key)) return;
    const { self, layout, shards, arithmetic, plan, wire, memory, run, redialFirst, redialMax } = this.options;
    const reduction = new ViewReduction({ view, self, layout, shards, arithmetic, reduced: plan.reduced, wire, space: this.space });
    const peers = view.members.filter((member) => member.incarnation !== self);
    const open: OpenView = {
      view,
      reduction,
      outboxes: new Map(peers.map((peer) => [peer.incarnation, new Outbox(peer.incarnation, view.id, memory)])),
      inbounds: [],
      completed: new Set(),
    };
    this.views.set(key, open);
    for (const peer of peers) {
      const inbound = new Inbound({
        run,
        view,
        self,
        peer,
        redialFirst,
        redialMax,
        onChunk: (buffer) => this.onChunk(open, peer.incarnation, buffer, inbound),
        onLost: (refused) => this.onEvent({ kind: "lost", view: view.id, peer: peer.incarnation, refused }),
      });
      open.inbounds.push(inbound);
    }
    const waiting = this.held.filter((held) => held.key === key);
    this.held = this.held.filter((held) => held.key !== key);
    for (const { from, sink } of waiting) open.outboxes.get(from)?.connect(sink);
  }

  closeView(id: ViewId): void {
    const open = this.views.get(viewKey(id));
    if (open === undefined) return;
    this.views.delete(viewKey(id));
    for (const inbound of open.inbounds) inbound.close();
    open.reduction.release();
  }

  close(): void {
    for (const { view } of [...this.views.values()]) this.closeView(view.id);
  }

  /** A peer opened its stream to us. Returns false where there is no room to hold it. */
  accept(id: ViewId, from: Incarnation, sink: Sink): boolean {
    const open = this.views.get(viewKey(id));
    if (open !== undefined) {
      const outbox = open.outboxes.get(from);
      outbox?.connect(sink);
      return outbox !== undefined;
    }
    if (this.held.length >= MOST_HELD) return false;
    this.held.push({ key: viewKey(id), from, sink });
    return true;
  }

  /** The peer's stream ended. */
  dropped(id: ViewId, from: Incarnation, sink: Sink): void {
    this.views.get(viewKey(id))?.outboxes.get(from)?.disconnect(sink);
    this.held = this.held.filter((held) => held.sink !== sink);
  }

  /** A step begins: tells the peers, so that joiners of a planned view know. */
  begin(id: ViewId, step: number): void {
    const open = this.views.get(viewKey(id));
    if (open === undefined) return;
    open.completed.delete(step - 2);
    for (const outbox of open.outboxes.values()) {
      outbox.begin(step);
      outbox.sendText(step, textChunk("active", id, step, {}));
    }
    this.checkComplete(open, step);
  }

  /** This member's maximal nodes are computed: every owner gets its segments, in the order of the buckets. */
  publishNodes(id: ViewId, step: number, nodes: readonly NodeBuffer[]): void {
    const open = this.views.get(viewKey(id));
    if (open === undefined) return;
    const { reduction } = open;
    for (const bucket of this.options.layout.buckets) {
      reduction.owners.forEach((owner, index) => {
        const { from, to } = reduction.segment(bucket, index);
        if (owner === this.options.self || from === to) return;
        for (const node of nodes) {
          open.outboxes.get(owner)!.send({
            kind: "partial",
            wire: this.wireOf(bucket.compressible),
            step,
            nodeFrom: node.range.from,
            nodeTo: node.range.to,
            address: node.address,
            table: node.table,
            firstBlock: from / BLOCK,
            blocks: (to - from) / BLOCK,
          });
        }
      });
    }
    for (const bucket of reduction.setOwn(step, nodes)) this.publishSegment(open, step, bucket.index);
    this.checkComplete(open, step);
  }

  publishTrailer(trailer: Trailer): void {
    const open = this.views.get(viewKey(trailer.view));
    if (open === undefined) return;
    const buffer = textChunk("trailer", trailer.view, trailer.step, trailer);
    for (const outbox of open.outboxes.values()) outbox.sendText(trailer.step, buffer);
  }

  /** By peer: bytes that it owes us in this step (its own first, those that depend on others only when alone), and sent. */
  owed(id: ViewId, step: number): { readonly incarnation: Incarnation; readonly owed: number; readonly received: number }[] {
    const open = this.views.get(viewKey(id));
    if (open === undefined) return [];
    const all = open.reduction.owed(step);
    const partials = all.some((peer) => peer.partials > 0);
    return all.map(({ incarnation, partials: own, reduced, received }) => ({ incarnation, owed: partials ? own : reduced, received }));
  }

  get bytesSent(): number {
    let sum = 0;
    for (const { outboxes } of this.views.values()) for (const outbox of outboxes.values()) sum += outbox.bytesSent;
    return sum;
  }

  private onChunk(open: OpenView, from: Incarnation, buffer: Buffer, inbound: Inbound): void {
    this.bytesReceived += buffer.length;
    let chunk: Chunk;
    try {
      chunk = parseChunk(buffer);
      if (viewKey(chunk.view) !== viewKey(open.view.id)) throw new RangeError("another view");
      if (chunk.kind === "trailer") return this.onTrailer(open, from, chunk);
    } catch {
      this.chunksRefused += 1;
      return inbound.restart();
    }
    const { view } = open;
    if (chunk.kind === "active") return this.onEvent({ kind: "active", view: view.id, step: chunk.step });
    const { reduction } = open;
    if (chunk.kind === "partial") {
      const { received, summed } = reduction.partial(chunk);
      if (received.kind === "corrupt") return this.onEvent({ kind: "corrupt", view: view.id, step: chunk.step, from });
      if (summed !== null) this.publishSegment(open, chunk.step, summed.index);
    } else if (reduction.reducedPiece(chunk, from).kind === "corrupt") {
      return this.onEvent({ kind: "corrupt", view: view.id, step: chunk.step, from });
    }
    this.checkComplete(open, chunk.step);
  }

  private onTrailer(open: OpenView, from: Incarnation, chunk: Chunk): void {
    const trailer = trailerSchema.parse(JSON.parse(chunk.payload.toString())) as unknown as Trailer;
    if (trailer.from !== from || viewKey(trailer.view) !== viewKey(open.view.id)) throw new RangeError("another sender's trailer");
    this.onEvent({ kind: "trailer", trailer });
  }

  private publishSegment(open: OpenView, step: number, bucketIndex: number): void {
    const { reduction } = open;
    const bucket = this.options.layout.buckets[bucketIndex]!;
    const { from, to } = reduction.segment(bucket);
    const vector = reduction.vectorOf(step);
    for (const outbox of open.outboxes.values()) {
      outbox.send({
        kind: "reduced",
        wire: this.wireOf(bucket.compressible),
        step,
        nodeFrom: 0,
        nodeTo: 0,
        address: vector.address,
        table: vector.table,
        firstBlock: from / BLOCK,
        blocks: (to - from) / BLOCK,
      });
    }
  }

  private checkComplete(open: OpenView, step: number): void {
    if (open.completed.has(step) || !open.reduction.isComplete(step)) return;
    open.completed.add(step);
    this.onEvent({ kind: "reduced", view: open.view.id, step });
  }

  private wireOf(compressible: boolean): "float32" | "bf16" {
    return compressible ? this.options.wire : "float32";
  }
}

export type { LedgerEntry };
