import { Worker } from "node:worker_threads";
import type { Recipe } from "../../shared/config/schema.ts";
import { LockstepError, sentenceOf } from "../../shared/errors.ts";
import { Board } from "./board.ts";
import type { LoaderFault } from "./micro-batch-loader.ts";
import { Patience } from "./patience.ts";
import { HEADER, headerOf, SLOT_STATE, type SlotLayout, slotLayout } from "./slot.ts";
import type { LoaderData } from "./thread.ts";
import { builtThread } from "./thread-file.ts";

/** A prepared micro-batch; addresses are byte addresses in the shared memory, 64-byte aligned where the slots are. */
export interface MicroBatch {
  readonly slot: number;
  readonly step: number;
  readonly shard: number;
  readonly samples: number;
  readonly side: number;
  /** float32 [samples, side, side, channels]. */
  readonly images: number;
  /** int32 [samples], classes counted from 0. */
  readonly labels: number;
  /** Of a recipe that mixes images: int32 [samples] labels of the partners, float32 [samples] own shares; else null. */
  readonly mixed: { readonly labels: number; readonly shares: number } | null;
  /** int32 [samples]: the samples whose pixels were loaded, in order. */
  readonly ids: number;
  /** idsDigest of the ids, made when they were loaded. */
  readonly digest: string;
}

export interface LoaderPoolOptions {
  readonly memory: WebAssembly.Memory;
  /** Byte addresses of the slots, each of slotLayout(recipe).bytes. */
  readonly slots: readonly number[];
  readonly dataDirectory: string;
  readonly recipe: Recipe;
  readonly threads: number;
  readonly fault?: LoaderFault | null;
  /** Built file of the loader thread, where it is not beside this one. */
  readonly threadFile?: URL | string;
  /** How long `take` waits, in milliseconds. */
  readonly longestWait?: number;
}

/** Names a micro-batch of the plan. */
export interface Assignment {
  readonly step: number;
  readonly shard: number;
}

const LONGEST_WAIT = 60_000;

/**
 * Micro-batches prepared ahead by loader threads. Its user is the compute thread, which blocks in TensorFlow and never
 * returns to its event loop: every call is synchronous, and the threads answer through shared memory.
 */
export class LoaderPool {
  readonly #options: LoaderPoolOptions;
  readonly #layout: SlotLayout;
  readonly #board: Board;
  readonly #threads: readonly Worker[];
  readonly #headers: readonly Int32Array[];
  /** What each slot was last asked for, in the order of asking. */
  readonly #assigned = new Map<number, Assignment>();

  constructor(options: LoaderPoolOptions) {
    const { memory, slots, dataDirectory, recipe, threads, fault = null } = options;
    if (slots.length === 0 || threads < 1) throw new RangeError(`${slots.length} slots, ${threads} loader threads`);
    this.#options = options;
    this.#layout = slotLayout(recipe);
    this.#board = new Board(slots.length, threads);
    this.#headers = slots.map((address) => headerOf(memory, address));
    for (const header of this.#headers) Atomics.store(header, HEADER.state, SLOT_STATE.free);
    const shared = { threads, board: this.#board.buffer, memory, slots, dataDirectory, recipe, fault };
    const file = options.threadFile ?? builtThread();
    this.#threads = Array.from({ length: threads }, (_, thread) => {
      const workerData: LoaderData = { ...shared, thread };
      const worker = new Worker(file, { workerData });
      // Heard only by a user that returns to its event loop; the thread's own last words are on the board.
      worker.on("error", (error) => this.#board.died(thread, `loader thread ${thread} failed: ${sentenceOf(error)}`));
      worker.unref();
      return worker;
    });
  }

  /**
   * Asks for the micro-batches that are still to be taken, in this order, as far as slots go. What is there or under way
   * stays; what was prepared and is not in the list any more makes room.
   */
  prefetch(wanted: Iterable<Assignment>): void {
    const list = [...wanted];
    this.#askForAll(list, () => this.#freeSlot() ?? this.#giveUpUnwanted(list));
  }

  /**
   * The micro-batch of a shard and step, waited for where necessary. Its slot is the caller's until `release`. Where no
   * slot is free, one that was prepared for something else is given up.
   * @throws LockstepError LS_LOADER_FAILED where it could not be loaded, LS_LOADER_DIED where a loader thread ended,
   * LS_LOADER_LATE where it did not come in time, LS_LOADER_SLOTS where all slots are taken and not released.
   */
  take(step: number, shard: number): MicroBatch {
    const patience = new Patience(this.#options.longestWait ?? LONGEST_WAIT);
    for (;;) {
      const rings = this.#board.rings();
      const slot = this.#find(step, shard) ?? this.#askFor(step, shard);
      const state = slot === undefined ? SLOT_STATE.dropped : Atomics.load(this.#headers[slot]!, HEADER.state);
      if (slot !== undefined && state === SLOT_STATE.ready) return this.#hand(slot, step, shard);
      if (slot !== undefined && state === SLOT_STATE.failed) throw this.#failed(slot, step, shard);
      this.#wait(rings, patience, `step ${step}, shard ${shard}`);
    }
  }

  /** Gives a taken slot back. */
  release(slot: number): void {
    if (Atomics.load(this.#headers[slot]!, HEADER.state) !== SLOT_STATE.taken) return;
    this.#free(slot);
  }

  /** Drops everything that is prepared or under way, for example when another view has other shards. */
  cancelAll(): void {
    for (const { slot } of this.#board.withdraw()) this.#free(slot);
    for (const slot of [...this.#assigned.keys()]) this.#drop(slot);
  }

  /** Micro-batches ready to be taken. */
  ready(): number {
    return this.#headers.filter((header) => Atomics.load(header, HEADER.state) === SLOT_STATE.ready).length;
  }

  /** Ends the threads. */
  async close(): Promise<void> {
    this.#board.close();
    await Promise.all(this.#threads.map((thread) => thread.terminate()));
  }

  #find(step: number, shard: number): number | undefined {
    for (const [slot, assigned] of this.#assigned) {
      if (assigned.step === step && assigned.shard === shard && !this.#isTaken(slot)) return slot;
    }
    return undefined;
  }

  #isTaken(slot: number): boolean {
    return Atomics.load(this.#headers[slot]!, HEADER.state) === SLOT_STATE.taken;
  }

  #freeSlot(): number | undefined {
    const slot = this.#headers.findIndex((header) => Atomics.load(header, HEADER.state) === SLOT_STATE.free);
    return slot < 0 ? undefined : slot;
  }

  #ask(slot: number, step: number, shard: number): void {
    this.#assigned.delete(slot);
    this.#assigned.set(slot, { step, shard });
    Atomics.store(this.#headers[slot]!, HEADER.state, SLOT_STATE.asked);
    this.#board.post({ slot, step, shard });
  }

  /** Asks for a micro-batch now, ahead of all that waits; undefined while every slot is at work on something else. */
  #askFor(step: number, shard: number): number | undefined {
    // What no thread has begun comes behind the wanted one, as far as slots go.
    const waiting = this.#board.withdraw();
    for (const job of waiting) this.#free(job.slot);
    if (this.#freeSlot() === undefined) {
      const prepared = [...this.#assigned.keys()].filter((slot) => this.#isPrepared(slot));
      const latest = prepared.at(-1);
      if (latest !== undefined) this.#free(latest);
      else if (this.#headers.every((_, slot) => this.#isTaken(slot))) throw allTaken(this.#headers.length);
    }
    const slot = this.#freeSlot();
    if (slot !== undefined) this.#ask(slot, step, shard);
    this.#askForAll(waiting, () => this.#freeSlot());
    return slot;
  }

  #askForAll(list: readonly Assignment[], findSlot: () => number | undefined): void {
    for (const { step, shard } of list) {
      if (this.#find(step, shard) !== undefined) continue;
      const slot = findSlot();
      if (slot === undefined) return;
      this.#ask(slot, step, shard);
    }
  }

  /** Drops what is not in the list; a slot that is free thereby. */
  #giveUpUnwanted(list: readonly Assignment[]): number | undefined {
    for (const [slot, { step, shard }] of [...this.#assigned]) {
      if (!list.some((wanted) => wanted.step === step && wanted.shard === shard)) this.#drop(slot);
    }
    return this.#freeSlot();
  }

  #isPrepared(slot: number): boolean {
    const state = Atomics.load(this.#headers[slot]!, HEADER.state);
    return state === SLOT_STATE.ready || state === SLOT_STATE.failed;
  }

  #hand(slot: number, step: number, shard: number): MicroBatch {
    const header = this.#headers[slot]!;
    Atomics.store(header, HEADER.state, SLOT_STATE.taken);
    const address = this.#options.slots[slot]!;
    const word = (cell: number) => (header[cell]! >>> 0).toString(16).padStart(8, "0");
    return {
      slot,
      step,
      shard,
      samples: header[HEADER.samples]!,
      side: header[HEADER.side]!,
      images: address + this.#layout.images,
      labels: address + this.#layout.labels,
      ids: address + this.#layout.ids,
      mixed: at(this.#layout.mixed, address),
      digest: word(HEADER.digestHigh) + word(HEADER.digestLow),
    };
  }

  #free(slot: number): void {
    this.#assigned.delete(slot);
    Atomics.store(this.#headers[slot]!, HEADER.state, SLOT_STATE.free);
  }

  #drop(slot: number): void {
    const header = this.#headers[slot]!;
    if (this.#isTaken(slot)) return;
    this.#assigned.delete(slot);
    const before = Atomics.compareExchange(header, HEADER.state, SLOT_STATE.asked, SLOT_STATE.dropped);
    if (before !== SLOT_STATE.asked) this.#free(slot);
  }

  #failed(slot: number, step: number, shard: number): LockstepError {
    const reason = this.#board.failure(slot);
    this.#free(slot);
    return new LockstepError("LS_LOADER_FAILED", `Step ${step}, shard ${shard} could not be loaded: ${reason}`);
  }

  #wait(rings: number, patience: Patience, what: string): void {
    const death = this.#board.death();
    if (death !== null) {
      throw new LockstepError("LS_LOADER_DIED", `Images cannot be loaded any more: ${death}`, {
        hint: "Check the data with `npx lockstep data verify`; the worker has to be started again.",
      });
    }
    if (this.#board.closed)
      throw new LockstepError("LS_LOADER_DIED", "Images cannot be loaded: the loaders were closed.");
    if (patience.over) {
      throw new LockstepError(
        "LS_LOADER_LATE",
        `The images of ${what} did not come in time: ${this.#board.describe()}.`,
        {
          hint: "Check the disk that holds the data set.",
        },
      );
    }
    patience.spend((millis) => this.#board.wait(rings, millis));
  }
}

const at = (mixed: SlotLayout["mixed"], address: number) =>
  mixed === null ? null : { labels: address + mixed.labels, shares: address + mixed.shares };

const allTaken = (slots: number) =>
  new LockstepError("LS_LOADER_SLOTS", `All ${slots} slots of prepared micro-batches are taken and none was released.`);
