import { LockstepError } from "../../shared/errors.ts";
import type { Bucket, Layout } from "../../shared/model/layout.ts";
import type { Trailer } from "../../shared/protocol/trailer.ts";
import { type Incarnation, type View, type ViewId, viewName } from "../../shared/protocol/view.ts";
import type { Trust } from "../../shared/security/trust.ts";
import type { Arithmetic } from "../arithmetic/arithmetic.ts";
import type { NodeBuffer } from "../compute/step.ts";
import { MOST_OPEN_VIEWS } from "../member/state.ts";
import type { MemoryPlan } from "../memory/plan.ts";
import type { ExchangeTrace } from "../trace/step-trace.ts";
import { type Chunk, parseChunk, textChunk, type WireFormat } from "./chunk.ts";
import { HeldCalls } from "./held-calls.ts";
import { Inbound } from "./inbound.ts";
import { type Item, Outbox, type Sink } from "./outbox.ts";
import { ReceiveSpace } from "./receive-space.ts";
import { StepGate } from "./step-gate.ts";
import { parseTrailer } from "./trailer-schema.ts";
import { type Outcome, SCRATCH_BYTES, ViewReduction } from "./view-reduction.ts";

export interface ExchangeOptions {
  readonly run: string;
  readonly self: Incarnation;
  readonly layout: Layout;
  /** V. */
  readonly shards: number;
  /** Format of trainable buckets on the wire. */
  readonly wire: WireFormat;
  readonly memory: WebAssembly.Memory;
  /** Reduced vectors are written here, and the receive region behind everything else. */
  readonly plan: Pick<MemoryPlan, "reduced" | "receive">;
  readonly arithmetic: Arithmetic;
  /** First and longest pause between redials, in milliseconds. */
  readonly redialFirst: number;
  readonly redialMax: number;
  /** By which connections to members are secured; null: they are not. */
  readonly trust?: Trust | null;
  /** Is told of chunks; null: nobody is. */
  readonly trace?: ExchangeTrace | null;
  /** How long a peer's early call is held for a view that is not known yet, in milliseconds. */
  readonly holdMillis?: number;
}

export type ExchangeEvent =
  | { readonly kind: "trailer"; readonly trailer: Trailer }
  /** A peer has begun this step of the view: joiners of a planned view learn from it that the view took effect. */
  | { readonly kind: "active"; readonly view: ViewId; readonly step: number }
  /** The whole reduced vector of the step is in. */
  | { readonly kind: "reduced"; readonly view: ViewId; readonly step: number }
  /** Floats of `from` (or our own nodes) do not have the hashes that were taken when they were made. */
  | { readonly kind: "corrupt"; readonly view: ViewId; readonly step: number; readonly from: Incarnation }
  | { readonly kind: "lost"; readonly view: ViewId; readonly peer: Incarnation; readonly refused: boolean };

export type Acceptance = "accepted" | "notAMember" | "noRoom";

interface OpenView {
  readonly key: string;
  readonly view: View;
  readonly reduction: ViewReduction;
  readonly outboxes: Map<Incarnation, Outbox>;
  readonly inbounds: Map<Incarnation, Inbound>;
  /** Steps whose reduced vector was announced; the two that can be under way. */
  readonly announced: Set<number>;
}

const MOST_HELD = 256;
const HOLD_MILLIS = 10_000;

/**
 * Reduce-scatter and all-gather among the members of a view, over the streams that each receiver opened: partials of a
 * segment go to its owner, the owner's sum goes to all, trailers follow. Views are opened ahead and closed late.
 */
export class Exchange {
  private readonly options: ExchangeOptions;
  private readonly onEvent: (event: ExchangeEvent) => void;
  private readonly space: ReceiveSpace;
  private readonly scratch: number;
  private readonly views = new Map<string, OpenView>();
  private readonly held: HeldCalls;
  private readonly gate = new StepGate((view, step) => this.withdrawReduced(view, step));
  private sentInClosedViews = 0;
  bytesReceived = 0;
  /** Chunks that no sound member would send: malformed, of another view, size, sender or step. */
  chunksRefused = 0;

  constructor(options: ExchangeOptions, onEvent: (event: ExchangeEvent) => void) {
    this.options = options;
    this.onEvent = onEvent;
    this.space = new ReceiveSpace(options.memory, options.plan.receive.address);
    this.scratch = this.space.take(SCRATCH_BYTES);
    this.held = new HeldCalls(MOST_HELD, options.holdMillis ?? HOLD_MILLIS);
  }

  /** Opens streams to all peers of a view and serves theirs. @throws LockstepError LS_TOO_MANY_VIEWS, LS_MEMORY_REFUSED */
  openView(view: View): void {
    const key = viewName(view.id);
    if (this.views.has(key)) return;
    if (this.views.size >= MOST_OPEN_VIEWS)
      throw new LockstepError("LS_TOO_MANY_VIEWS", `${MOST_OPEN_VIEWS} views are open already.`);
    const { self, layout, shards, arithmetic, plan, wire, trace = null } = this.options;
    const { space, scratch } = this;
    const parts = { view, self, layout, shards, arithmetic, reduced: plan.reduced, wire, space, scratch };
    const peers = view.members.filter((member) => member.incarnation !== self);
    const outboxes = peers.map((peer) => new Outbox(peer.incarnation, view.id, arithmetic, scratch, trace));
    const open: OpenView = {
      key,
      view,
      reduction: new ViewReduction(parts),
      outboxes: new Map(outboxes.map((outbox) => [outbox.peer, outbox])),
      inbounds: new Map(),
      announced: new Set(),
    };
    this.views.set(key, open);
    for (const peer of peers) open.inbounds.set(peer.incarnation, this.dial(open, peer));
    for (const { from, sink } of this.held.take(key)) {
      const outbox = open.outboxes.get(from);
      if (outbox === undefined) sink.end();
      else outbox.connect(sink);
    }
  }

  /** Leaves a view: peers see our streams end. */
  closeView(id: ViewId): void {
    const open = this.views.get(viewName(id));
    if (open === undefined) return;
    this.views.delete(open.key);
    this.sentInClosedViews += sentOf(open);
    for (const inbound of open.inbounds.values()) inbound.close();
    for (const outbox of open.outboxes.values()) outbox.close();
    open.reduction.release();
    this.gate.close(open.key);
    this.resumeAll();
  }

  /** The worker ends. Peers' streams break when its server does: an end without a word is what they must see. */
  close(): void {
    this.held.close();
    for (const open of this.views.values()) for (const inbound of open.inbounds.values()) inbound.close();
    this.views.clear();
  }

  /** A peer opened its stream to us. `expired` is called where the view does not become known in time. */
  accept(id: ViewId, from: Incarnation, sink: Sink, expired: () => void): Acceptance {
    const open = this.views.get(viewName(id));
    if (open === undefined) return this.held.hold(viewName(id), from, sink, expired) ? "accepted" : "noRoom";
    const outbox = open.outboxes.get(from);
    outbox?.connect(sink);
    return outbox === undefined ? "notAMember" : "accepted";
  }

  /** The peer's stream ended. */
  dropped(id: ViewId, from: Incarnation, sink: Sink): void {
    this.views.get(viewName(id))?.outboxes.get(from)?.disconnect(sink);
    this.held.drop(sink);
  }

  /**
   * A step begins here. From now on nothing of other views or older steps reaches its vector, and own nodes may be
   * overwritten. Tells the peers, so that joiners of a planned view know.
   */
  begin(id: ViewId, step: number): void {
    const open = this.views.get(viewName(id));
    if (open === undefined) return;
    const voided = this.gate.begin(open.key, step);
    for (const other of this.views.values()) {
      // A partial of an older step has arrived, or that step could not have ended; in a view that was left, nobody waits for it.
      const keep = (item: Item) => (other === open ? isNeeded(item, step) : item.kind !== "partial");
      for (const outbox of other.outboxes.values()) outbox.retain(keep);
    }
    for (const key of voided) this.startOver(key);
    open.announced.delete(step - 2);
    for (const outbox of open.outboxes.values()) outbox.sendText(step, textChunk("active", id, step, {}));
    this.resumeAll();
    open.announced.delete(step);
    this.announceIfComplete(open, step);
  }

  /**
   * This member's maximal nodes are computed, with their hashes, in these buckets (default: in all): every owner gets
   * its segments. Ignored for a step that is not under way.
   */
  publishNodes(id: ViewId, step: number, nodes: readonly NodeBuffer[], indices?: readonly number[]): void {
    const open = this.views.get(viewName(id));
    if (open === undefined || !this.gate.isCurrent(open.key, step)) return;
    const { buckets } = this.options.layout;
    const ready = indices === undefined ? buckets : indices.map((index) => buckets[index]!);
    for (const bucket of ready) this.sendNodes(open, step, nodes, bucket);
    this.conclude(open, step, open.reduction.setOwn(step, nodes, ready));
  }

  publishTrailer(trailer: Trailer): void {
    const open = this.views.get(viewName(trailer.view));
    if (open === undefined) return;
    const buffer = textChunk("trailer", trailer.view, trailer.step, trailer);
    for (const outbox of open.outboxes.values()) outbox.sendText(trailer.step, buffer);
  }

  /** Sends all peers of a view something once, whatever it is: for injected faults. */
  disturb(id: ViewId, bytes: Buffer): void {
    for (const outbox of this.views.get(viewName(id))?.outboxes.values() ?? []) outbox.disturb(bytes);
  }

  /**
   * By peer: bytes that it owes us in this step, and received. Partials depend on that peer alone; its reduced segments
   * also on everybody's partials, so they count as owed only when no partial is missing any more.
   */
  owed(
    id: ViewId,
    step: number,
  ): { readonly incarnation: Incarnation; readonly owed: number; readonly received: number }[] {
    const all = this.views.get(viewName(id))?.reduction.owed(step) ?? [];
    const partials = all.some((peer) => peer.partials > 0);
    return all.map(({ incarnation, partials: own, reduced, received }) => ({
      incarnation,
      owed: partials ? own : reduced,
      received,
    }));
  }

  get self(): Incarnation {
    return this.options.self;
  }

  get bytesSent(): number {
    return [...this.views.values()].reduce((sum, open) => sum + sentOf(open), this.sentInClosedViews);
  }

  private dial(open: OpenView, peer: View["members"][number]): Inbound {
    const { run, self, redialFirst, redialMax, trust = null } = this.options;
    const { view } = open;
    return new Inbound({
      run,
      view,
      self,
      peer,
      trust,
      redialFirst,
      redialMax,
      onChunk: (buffer) => this.onChunk(open, peer.incarnation, buffer),
      onLost: (refused) => this.onEvent({ kind: "lost", view: view.id, peer: peer.incarnation, refused }),
    });
  }

  private onChunk(open: OpenView, from: Incarnation, buffer: Buffer): "done" | "wait" {
    const read = this.read(open, from, buffer);
    const verdict = read.kind === "data" ? this.gate.verdict(open.key, read.chunk.step) : "take";
    if (verdict === "wait") return "wait";
    this.bytesReceived += buffer.length;
    if (read.kind === "event") this.onEvent(read.event);
    else if (read.kind === "malformed") {
      this.chunksRefused += 1;
      open.inbounds.get(from)?.restart();
    } else if (verdict === "refuse") this.chunksRefused += 1;
    else if (verdict === "take") {
      const { chunk } = read;
      const { reduction } = open;
      const { trace = null } = this.options;
      const came = trace?.arrived(from, chunk.step) ?? 0;
      const outcome = chunk.kind === "partial" ? reduction.partial(chunk, from) : reduction.reducedPiece(chunk, from);
      this.conclude(open, chunk.step, outcome);
      trace?.received(from, chunk, buffer.length, came);
    }
    return "done";
  }

  private read(
    open: OpenView,
    from: Incarnation,
    buffer: Buffer,
  ): { kind: "malformed" } | { kind: "event"; event: ExchangeEvent } | { kind: "data"; chunk: Chunk } {
    try {
      const chunk = parseChunk(buffer);
      if (viewName(chunk.view) !== open.key) return { kind: "malformed" };
      if (chunk.kind === "active")
        return { kind: "event", event: { kind: "active", view: open.view.id, step: chunk.step } };
      if (chunk.kind !== "trailer") return { kind: "data", chunk };
      return { kind: "event", event: { kind: "trailer", trailer: parseTrailer(chunk, from) } };
    } catch (error) {
      if (error instanceof LockstepError) return { kind: "malformed" };
      throw error;
    }
  }

  /** What follows from a piece, or from own nodes. */
  private conclude(open: OpenView, step: number, outcome: Outcome): void {
    if (outcome.kind === "refused") this.chunksRefused += 1;
    if (outcome.kind === "corrupt") this.onEvent({ kind: "corrupt", view: open.view.id, step, from: outcome.from });
    if (outcome.kind !== "taken") return;
    for (const bucket of outcome.summed) this.sendSegment(open, step, bucket);
    this.announceIfComplete(open, step);
  }

  private sendNodes(open: OpenView, step: number, nodes: readonly NodeBuffer[], bucket: Bucket): void {
    const { segments } = open.reduction;
    const wire = open.reduction.wireOf(bucket);
    segments.owners.forEach((owner, index) => {
      const { from, to } = segments.of(bucket.index, index);
      const outbox = open.outboxes.get(owner);
      if (outbox === undefined || from === to) return;
      for (const { range, address, table } of nodes) {
        const node = { nodeFrom: range.from, nodeTo: range.to, address, table };
        outbox.send({ kind: "partial", wire, step, ...node, firstBlock: from, blocks: to - from });
      }
    });
  }

  private sendSegment(open: OpenView, step: number, bucket: Bucket): void {
    const { from, to } = open.reduction.segments.own(bucket.index);
    const { address, table } = open.reduction.vectorOf(step);
    const where = { nodeFrom: 0, nodeTo: 0, address, table, firstBlock: from, blocks: to - from };
    const wire = open.reduction.wireOf(bucket);
    for (const outbox of open.outboxes.values()) outbox.send({ kind: "reduced", wire, step, ...where });
  }

  private announceIfComplete(open: OpenView, step: number): void {
    if (this.views.get(open.key) !== open || open.announced.has(step) || !open.reduction.isComplete(step)) return;
    open.announced.add(step);
    this.onEvent({ kind: "reduced", view: open.view.id, step });
  }

  /** A reduced vector passes to this step of this view: what it held before must not be read any more. */
  private withdrawReduced(key: string, step: number): void {
    for (const open of this.views.values()) {
      const keep = (item: Item) =>
        item.kind !== "reduced" || item.step % 2 !== step % 2 || (open.key === key && item.step === step);
      for (const outbox of open.outboxes.values()) outbox.retain(keep);
    }
  }

  private startOver(key: string): void {
    const open = this.views.get(key);
    if (open === undefined) return;
    open.reduction.forget();
    open.announced.clear();
    for (const inbound of open.inbounds.values()) inbound.restart();
  }

  private resumeAll(): void {
    for (const open of [...this.views.values()]) for (const inbound of open.inbounds.values()) inbound.resume();
  }
}

/** What peers may still need once `step` has begun: its own pieces, and sums and trailers of the step before. */
const isNeeded = (item: Item, step: number): boolean =>
  item.step >= step || (item.step === step - 1 && item.kind !== "partial");

const sentOf = (open: OpenView): number =>
  [...open.outboxes.values()].reduce((sum, { bytesSent }) => sum + bytesSent, 0);
