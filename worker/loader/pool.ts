import { Worker } from "node:worker_threads";
import type { Recipe } from "../../shared/config/schema.ts";
import { LockstepError } from "../../shared/errors.ts";
import { idsDigest } from "../../shared/plan/digest.ts";
import { headerOf, SLOT_STATE, type SlotLayout, slotLayout } from "./slot.ts";
import type { LoaderData, LoaderFault, LoaderJob } from "./thread.ts";

/** A prepared micro-batch; addresses are byte addresses in the shared memory. */
export interface MicroBatch {
  readonly slot: number;
  readonly samples: number;
  readonly side: number;
  /** float32 [samples, side, side, channels]. */
  readonly images: number;
  /** int32 [samples], counted from 0. */
  readonly labels: number;
  /** Digest of the ids whose pixels were loaded, in order. */
  readonly digest: string;
}

export interface LoaderPoolOptions {
  readonly memory: WebAssembly.Memory;
  /** Byte addresses of the slots. */
  readonly slots: readonly number[];
  readonly dataDirectory: string;
  readonly recipe: Recipe;
  readonly threads: number;
  readonly fault?: LoaderFault | null;
  /** Built file of the loader thread. */
  readonly threadFile: URL | string;
}

interface Assignment {
  readonly step: number;
  readonly shard: number;
}

/** How long the compute thread waits for a micro-batch before it gives up, in milliseconds. */
const LONGEST_WAIT = 60_000;

/**
 * Micro-batches prepared ahead by loader threads. Its user is the compute thread, which blocks: all calls are
 * synchronous, and the threads answer through the slots' headers.
 */
export class LoaderPool {
  private readonly options: LoaderPoolOptions;
  private readonly layout: SlotLayout;
  private readonly threads: Worker[];
  private readonly assigned: (Assignment | null)[];
  private next = 0;

  constructor(options: LoaderPoolOptions) {
    this.options = options;
    this.layout = slotLayout(options.recipe);
    this.assigned = options.slots.map(() => null);
    const { memory, dataDirectory, recipe, fault = null } = options;
    const workerData: LoaderData = { memory, dataDirectory, recipe, fault };
    this.threads = Array.from({ length: options.threads }, () => new Worker(options.threadFile, { workerData }));
    for (const thread of this.threads) thread.unref();
  }

  /** Asks for micro-batches in this order, as far as free slots go; what is there or under way already is not repeated. */
  prefetch(wanted: Iterable<Assignment>): void {
    for (const { step, shard } of wanted) {
      if (this.find(step, shard) >= 0) continue;
      const slot = this.assigned.indexOf(null);
      if (slot < 0) return;
      this.ask(slot, step, shard);
    }
  }

  /**
   * The micro-batch of a shard and step, waiting for it where necessary.
   * @throws LockstepError LS_LOADER where it could not be loaded or did not come in time.
   */
  take(step: number, shard: number): MicroBatch {
    let slot = this.find(step, shard);
    if (slot < 0) {
      slot = this.assigned.indexOf(null);
      if (slot < 0) slot = this.reclaim();
      this.ask(slot, step, shard);
    }
    const { memory } = this.options;
    const address = this.options.slots[slot]!;
    const header = headerOf(memory, address);
    while (Atomics.load(header, 0) === SLOT_STATE.asked) {
      if (Atomics.wait(header, 0, SLOT_STATE.asked, LONGEST_WAIT) !== "timed-out") continue;
      throw new LockstepError("LS_LOADER", `The micro-batch of step ${step}, shard ${shard} was not loaded in 60 s.`);
    }
    if (Atomics.load(header, 0) === SLOT_STATE.failed) {
      this.release(slot);
      throw new LockstepError("LS_LOADER", `Loading step ${step}, shard ${shard} failed.`, {
        hint: "See the worker's log; check the data with `npx lockstep data verify`.",
      });
    }
    const samples = header[1]!;
    const ids = new Int32Array(memory.buffer, address + this.layout.ids, samples);
    return {
      slot,
      samples,
      side: header[2]!,
      images: address + this.layout.images,
      labels: address + this.layout.labels,
      digest: idsDigest(ids),
    };
  }

  release(slot: number): void {
    this.assigned[slot] = null;
    Atomics.store(headerOf(this.options.memory, this.options.slots[slot]!), 0, SLOT_STATE.free);
  }

  /** Micro-batches ready to be taken. */
  ready(): number {
    const { memory, slots } = this.options;
    return slots.filter((address) => Atomics.load(headerOf(memory, address), 0) === SLOT_STATE.ready).length;
  }

  async close(): Promise<void> {
    await Promise.all(this.threads.map((thread) => thread.terminate()));
  }

  private find(step: number, shard: number): number {
    return this.assigned.findIndex((a) => a?.step === step && a.shard === shard);
  }

  private ask(slot: number, step: number, shard: number): void {
    this.assigned[slot] = { step, shard };
    const address = this.options.slots[slot]!;
    Atomics.store(headerOf(this.options.memory, address), 0, SLOT_STATE.asked);
    const job: LoaderJob = { address, step, shard };
    this.threads[this.next++ % this.threads.length]!.postMessage(job);
  }

  /** Frees a slot that was prepared for a range or step that is not wanted any more. */
  private reclaim(): number {
    const { memory, slots } = this.options;
    for (;;) {
      const slot = slots.findIndex((address) => Atomics.load(headerOf(memory, address), 0) !== SLOT_STATE.asked);
      if (slot >= 0) {
        this.release(slot);
        return slot;
      }
      Atomics.wait(headerOf(memory, slots[0]!), 0, SLOT_STATE.asked, 1000);
    }
  }
}
