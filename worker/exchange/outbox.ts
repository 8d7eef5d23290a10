import { BLOCK } from "../../shared/model/layout.ts";
import type { Incarnation, ViewId } from "../../shared/protocol/view.ts";
import type { Arithmetic } from "../arithmetic/arithmetic.ts";
import { copyBytes } from "../memory/copy-bytes.ts";
import type { ExchangeTrace } from "../trace/step-trace.ts";
import { type ChunkKind, layOutChunk, MAX_BLOCKS, MAX_CHUNK_BYTES, ROOM_OFFSET, type WireFormat } from "./chunk.ts";

/** A stretch of a vector in shared memory that goes to one peer, in pieces of at most MAX_BLOCKS. */
export interface Stretch {
  readonly kind: Extract<ChunkKind, "partial" | "reduced">;
  readonly wire: WireFormat;
  readonly step: number;
  readonly nodeFrom: number;
  readonly nodeTo: number;
  /** Byte addresses of the vector's first float and of its table's first hash. */
  readonly address: number;
  readonly table: number;
  readonly firstBlock: number;
  readonly blocks: number;
}

interface Text {
  readonly kind: "text";
  readonly step: number;
  readonly buffer: Buffer;
}

export type Item = Stretch | Text;

/** The writable end of the call that a peer keeps open to us. */
export interface Sink {
  /** Takes a message; `taken` is called once the bytes are no longer needed, or never where the call is over. */
  write(buffer: Buffer, taken: () => void): unknown;
  /** The view is left: nothing more will come. */
  end(): unknown;
}

const newRoom = () => Buffer.allocUnsafeSlow(ROOM_OFFSET + MAX_CHUNK_BYTES).subarray(ROOM_OFFSET);

/** Messages that a stream may hold at a time: one on its way, one ready behind it. */
const IN_FLIGHT = 2;

/**
 * What one peer gets in one view, in order. A stretch is read from shared memory when the stream takes it, so that a slow
 * peer costs no memory; whatever is about to be overwritten is withdrawn first. After a redial all of it is sent again.
 */
export class Outbox {
  readonly peer: Incarnation;
  private readonly arithmetic: Arithmetic;
  private readonly view: ViewId;
  /** Bytes of scratch in shared memory for a bfloat16 payload. */
  private readonly scratch: number;
  private readonly trace: ExchangeTrace | null;
  private sink: Sink | null = null;
  /** What the peer may still need, and how much of it this stream has had. */
  private items: Item[] = [];
  private sent = 0;
  private inFlight = 0;
  private rooms: Buffer[] = [];
  bytesSent = 0;

  constructor(
    peer: Incarnation,
    view: ViewId,
    arithmetic: Arithmetic,
    scratch: number,
    trace: ExchangeTrace | null = null,
  ) {
    this.peer = peer;
    this.view = view;
    this.arithmetic = arithmetic;
    this.scratch = scratch;
    this.trace = trace;
  }

  /** Items that wait for the peer's stream. */
  get waiting(): number {
    return this.items.length - this.sent;
  }

  connect(sink: Sink): void {
    const before = this.sink;
    this.sink = sink;
    this.sent = 0;
    this.inFlight = 0;
    // Rooms that the former stream still holds are its own now.
    this.rooms = [];
    before?.end();
    this.pump();
  }

  disconnect(sink: Sink): void {
    if (this.sink === sink) this.sink = null;
  }

  close(): void {
    const { sink } = this;
    this.sink = null;
    this.items = [];
    sink?.end();
  }

  /** Withdraws what does not satisfy `keep`. */
  retain(keep: (item: Item) => boolean): void {
    const sent = this.items.slice(0, this.sent).filter(keep);
    this.items = [...sent, ...this.items.slice(this.sent).filter(keep)];
    this.sent = sent.length;
  }

  send(item: Stretch): void {
    for (let done = 0; done < item.blocks; done += MAX_BLOCKS) {
      const blocks = Math.min(MAX_BLOCKS, item.blocks - done);
      this.items.push({ ...item, firstBlock: item.firstBlock + done, blocks });
    }
    this.pump();
  }

  sendText(step: number, buffer: Buffer): void {
    this.items.push({ kind: "text", step, buffer });
    this.pump();
  }

  /** Sends bytes out of turn to whoever is connected now, and never again. */
  disturb(bytes: Buffer): void {
    this.sink?.write(bytes, () => {});
  }

  private pump(): void {
    const { sink } = this;
    if (sink === null) return;
    while (this.inFlight < IN_FLIGHT && this.sent < this.items.length) {
      const item = this.items[this.sent]!;
      this.sent += 1;
      this.inFlight += 1;
      const from = this.trace?.now() ?? 0;
      const room = item.kind === "text" ? null : (this.rooms.pop() ?? newRoom());
      const message = item.kind === "text" ? item.buffer : this.fill(room!, item);
      this.bytesSent += message.length;
      sink.write(message, () => {
        if (item.kind !== "text") this.trace?.sent(this.peer, item, message.length, from);
        if (this.sink !== sink) return;
        if (room !== null) this.rooms.push(room);
        this.inFlight -= 1;
        this.pump();
      });
    }
  }

  private fill(room: Buffer, item: Stretch): Buffer {
    const { kind, wire, step, nodeFrom, nodeTo, firstBlock, blocks } = item;
    const header = { kind, wire, view: this.view, step, nodeFrom, nodeTo, firstBlock, blocks };
    const { buffer, hashes, payload } = layOutChunk(room, header);
    const memory = this.arithmetic.memory.buffer;
    hashes.set(new Uint8Array(memory, item.table + firstBlock * 8, hashes.length));
    let from = item.address + firstBlock * BLOCK * 4;
    if (wire === "bf16") {
      // Exact: the values were rounded to bfloat16 when they were made.
      this.arithmetic.packBf16(this.scratch, from, blocks * BLOCK);
      from = this.scratch;
    }
    copyBytes(payload, 0, Buffer.from(memory, from, payload.length));
    return buffer;
  }
}
