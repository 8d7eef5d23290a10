/**
 * What the pool and its loader threads share beside the slots: a queue of jobs, a bell that threads ring, and the words
 * of failures. The pool's user blocks and never returns to its event loop, so nothing here is a message.
 */
export interface Job {
  readonly slot: number;
  readonly step: number;
  readonly shard: number;
}

const THREAD_STATE = { starting: 0, waiting: 1, loading: 2, dead: 3 } as const;
const STATE_WORDS = ["starting up", "waiting for work", "loading", "dead"] as const;

const CLOSED = 0;
const POSTED = 1;
const CLAIMED = 2;
const BELL = 3;
const FIRST_THREAD = 4;
const JOB_WORDS = 3;
const TEXT_BYTES = 1024;

export class Board {
  readonly buffer: SharedArrayBuffer;
  readonly #words: Int32Array;
  readonly #text: Uint8Array;
  readonly #jobs: number;
  readonly #slots: number;
  readonly #threads: number;

  /** A new board, or the one that lies in `buffer`. */
  constructor(slots: number, threads: number, buffer?: SharedArrayBuffer) {
    this.#slots = slots;
    this.#threads = threads;
    this.#jobs = FIRST_THREAD + threads;
    const words = this.#jobs + slots * JOB_WORDS;
    // One text for each slot's failure and one for each thread's death; the first byte says whether there is one.
    this.buffer = buffer ?? new SharedArrayBuffer(words * 4 + (slots + threads) * TEXT_BYTES);
    this.#words = new Int32Array(this.buffer, 0, words);
    this.#text = new Uint8Array(this.buffer, words * 4);
  }

  /** Queues a job. There is never more than one for a slot, so the queue cannot overflow. */
  post(job: Job): void {
    const posted = Atomics.load(this.#words, POSTED);
    this.#words.set([job.slot, job.step, job.shard], this.#jobAt(posted));
    Atomics.store(this.#words, POSTED, (posted + 1) | 0);
    Atomics.notify(this.#words, POSTED);
  }

  /** Takes all jobs that no thread has begun off the queue. */
  withdraw(): Job[] {
    for (;;) {
      const claimed = Atomics.load(this.#words, CLAIMED);
      const posted = Atomics.load(this.#words, POSTED);
      const waiting = Array.from({ length: (posted - claimed) | 0 }, (_, i) => this.#job((claimed + i) | 0));
      if (Atomics.compareExchange(this.#words, CLAIMED, claimed, posted) === claimed) return waiting;
    }
  }

  /** The next job, waited for; null once the board is closed. For thread number `thread`. */
  claim(thread: number): Job | null {
    Atomics.store(this.#words, FIRST_THREAD + thread, THREAD_STATE.waiting);
    for (;;) {
      const posted = Atomics.load(this.#words, POSTED);
      if (Atomics.load(this.#words, CLOSED) === 1) return null;
      const claimed = Atomics.load(this.#words, CLAIMED);
      if (claimed === posted) {
        Atomics.wait(this.#words, POSTED, posted);
        continue;
      }
      // Read before the claim: afterwards the pool may reuse the place.
      const job = this.#job(claimed);
      if (Atomics.compareExchange(this.#words, CLAIMED, claimed, (claimed + 1) | 0) !== claimed) continue;
      Atomics.store(this.#words, FIRST_THREAD + thread, THREAD_STATE.loading);
      return job;
    }
  }

  close(): void {
    Atomics.store(this.#words, CLOSED, 1);
    Atomics.notify(this.#words, POSTED);
    this.ring();
  }

  get closed(): boolean {
    return Atomics.load(this.#words, CLOSED) === 1;
  }

  /** Wakes the pool. */
  ring(): void {
    Atomics.add(this.#words, BELL, 1);
    Atomics.notify(this.#words, BELL);
  }

  /** How often the bell was rung: read it, look at what you wait for, then wait for the next ring. */
  rings(): number {
    return Atomics.load(this.#words, BELL);
  }

  /** Waits until the bell is rung after `rings` was read, at most `millis`. */
  wait(rings: number, millis: number): void {
    Atomics.wait(this.#words, BELL, rings, millis);
  }

  /** Says why a slot could not be loaded. */
  failed(slot: number, reason: string): void {
    this.#write(slot, reason);
  }

  failure(slot: number): string {
    return this.#read(slot) ?? "unknown reason";
  }

  /** Says that a thread has ended and why; the first reason stays. */
  died(thread: number, reason: string): void {
    if (Atomics.exchange(this.#words, FIRST_THREAD + thread, THREAD_STATE.dead) === THREAD_STATE.dead) return;
    this.#write(this.#slots + thread, reason);
    this.ring();
  }

  /** The first dead thread's reason, or null. */
  death(): string | null {
    for (let thread = 0; thread < this.#threads; thread++) {
      if (Atomics.load(this.#words, FIRST_THREAD + thread) === THREAD_STATE.dead) {
        return this.#read(this.#slots + thread) ?? `loader thread ${thread} ended`;
      }
    }
    return null;
  }

  /** What each thread is doing, for a person. */
  describe(): string {
    return Array.from({ length: this.#threads }, (_, thread) => {
      return `loader thread ${thread} is ${STATE_WORDS[Atomics.load(this.#words, FIRST_THREAD + thread)]}`;
    }).join(", ");
  }

  #jobAt(index: number): number {
    return this.#jobs + ((index >>> 0) % this.#slots) * JOB_WORDS;
  }

  #job(index: number): Job {
    const at = this.#jobAt(index);
    return { slot: this.#words[at]!, step: this.#words[at + 1]!, shard: this.#words[at + 2]! };
  }

  #write(index: number, text: string): void {
    const bytes = new TextEncoder().encode(text).subarray(0, TEXT_BYTES - 2);
    const at = index * TEXT_BYTES;
    this.#text.set(bytes, at + 2);
    this.#text[at] = bytes.length & 255;
    Atomics.store(this.#text, at + 1, 0x80 | (bytes.length >> 8));
  }

  #read(index: number): string | null {
    const at = index * TEXT_BYTES;
    const high = Atomics.load(this.#text, at + 1);
    if (high === 0) return null;
    const length = this.#text[at]! | ((high & 0x7f) << 8);
    // A decoder refuses shared memory; slice copies.
    return new TextDecoder().decode(this.#text.slice(at + 2, at + 2 + length));
  }
}
