import type { Incarnation, ViewId } from "../../shared/protocol/view.ts";
import { BLOCK } from "../../shared/model/layout.ts";
import { allocateChunk, type ChunkKind, MAX_BLOCKS, type WireFormat } from "./chunk.ts";

/** A stretch of a vector in shared memory that goes to one peer, cut into chunks when it is sent. */
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

type Item = Stretch | { readonly kind: "text"; readonly step: number; readonly buffer: Buffer };

/** The writable end of the call that a peer keeps open to us. */
export interface Sink {
  write(buffer: Buffer): boolean;
  once(event: "drain", listener: () => void): unknown;
}

/**
 * What one peer gets in one view, in order. Nothing is copied out of shared memory before the stream takes it, so that a
 * slow peer costs no memory; what a peer may lack after a redial is sent again.
 */
export class Outbox {
  readonly peer: Incarnation;
  private readonly memory: WebAssembly.Memory;
  private readonly view: ViewId;
  private sink: Sink | null = null;
  private queue: Item[] = [];
  /** Everything of the step under way, and what others may still need of the one before. */
  private log: Item[] = [];
  private draining = false;
  bytesSent = 0;

  constructor(peer: Incarnation, view: ViewId, memory: WebAssembly.Memory) {
    this.peer = peer;
    this.view = view;
    this.memory = memory;
  }

  get connected(): boolean {
    return this.sink !== null;
  }

  connect(sink: Sink): void {
    this.sink = sink;
    this.queue = [...this.log];
    this.draining = false;
    this.pump();
  }

  disconnect(sink: Sink): void {
    if (this.sink === sink) this.sink = null;
  }

  /** A step begins: partials of older ones have arrived, or the step could not have ended. */
  begin(step: number): void {
    const needed = (item: Item) => item.step >= step || (item.step === step - 1 && item.kind !== "partial");
    this.log = this.log.filter(needed);
    this.queue = this.queue.filter(needed);
  }

  send(item: Stretch): void {
    for (let done = 0; done < item.blocks; done += MAX_BLOCKS) {
      this.push({ ...item, firstBlock: item.firstBlock + done, blocks: Math.min(MAX_BLOCKS, item.blocks - done) });
    }
    this.pump();
  }

  sendText(step: number, buffer: Buffer): void {
    this.push({ kind: "text", step, buffer });
    this.pump();
  }

  private push(item: Item): void {
    this.log.push(item);
    if (this.sink !== null) this.queue.push(item);
  }

  private pump(): void {
    const { sink } = this;
    if (sink === null || this.draining) return;
    while (this.queue.length > 0) {
      const buffer = this.bufferOf(this.queue.shift()!);
      this.bytesSent += buffer.length;
      if (sink.write(buffer)) continue;
      this.draining = true;
      sink.once("drain", () => {
        if (this.sink !== sink) return;
        this.draining = false;
        this.pump();
      });
      return;
    }
  }

  private bufferOf(item: Item): Buffer {
    if (item.kind === "text") return item.buffer;
    const { kind, wire, step, nodeFrom, nodeTo, firstBlock, blocks } = item;
    const { buffer, hashes, payload } = allocateChunk({ kind, wire, view: this.view, step, nodeFrom, nodeTo, firstBlock, blocks });
    const memory = this.memory.buffer;
    hashes.set(new Uint8Array(memory, item.table + firstBlock * 8, blocks * 8));
    const from = item.address + firstBlock * BLOCK * 4;
    if (wire === "float32") payload.set(new Uint8Array(memory, from, blocks * BLOCK * 4));
    else {
      // The values are bfloat16 already: their low halves are zero.
      const words = new Uint32Array(memory, from, blocks * BLOCK);
      for (let i = 0; i < words.length; i++) payload.writeUInt16LE(words[i]! >>> 16, i * 2);
    }
    return buffer;
  }
}
