import { type FileHandle, open } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";

export interface AppendQueueOptions {
  /** Pieces that wait while the disk is slow or full; beyond them the oldest are dropped and counted. */
  readonly most?: number;
  /** Pause after a failed write, in milliseconds. */
  readonly retryEvery?: number;
  /** Opens the file for appending; a test's disk may be full. */
  readonly open?: (path: string) => Promise<Pick<FileHandle, "write" | "close">>;
}

const MOST = 10_000;
const CLOSE_PATIENCE = 2000;

/**
 * A file for people and tools (events.ndjson, steps.ndjson, TensorBoard's): appended in order without ever holding up
 * whoever writes. Nothing is decided by these files, so that a full disk costs pieces of them, not the run.
 */
export class AppendQueue {
  /** Pieces that were never written. */
  dropped = 0;
  readonly #path: string;
  readonly #options: AppendQueueOptions;
  #queue: Buffer[] = [];
  /** Set and cleared in one go with the look at the queue, so that nothing is left in it. */
  #busy = false;
  #pumping: Promise<void> | null = null;
  #handle: Pick<FileHandle, "write" | "close"> | null = null;
  #closing = false;

  constructor(path: string, options: AppendQueueOptions = {}) {
    this.#path = path;
    this.#options = options;
  }

  write(piece: string | Uint8Array): void {
    if (this.#closing) {
      this.dropped += 1;
      return;
    }
    this.#queue.push(Buffer.from(piece));
    if (this.#queue.length > (this.#options.most ?? MOST)) {
      this.#queue.shift();
      this.dropped += 1;
    }
    if (!this.#busy) this.#pumping = this.#pump();
  }

  /** Resolves when everything so far is written, or could not be for some time. */
  async flush(): Promise<void> {
    const late = new AbortController();
    await Promise.race([this.#pumping, sleep(CLOSE_PATIENCE, null, { signal: late.signal }).catch(() => {})]);
    late.abort();
  }

  async close(): Promise<void> {
    await this.flush();
    this.#closing = true;
    this.dropped += this.#queue.length;
    this.#queue = [];
    await this.#pumping;
    await this.#handle?.close();
    this.#handle = null;
  }

  async #pump(): Promise<void> {
    this.#busy = true;
    while (this.#queue.length > 0) {
      const pieces = this.#queue;
      this.#queue = [];
      const bytes = Buffer.concat(pieces);
      for (let at = 0; at < bytes.length; ) {
        try {
          this.#handle ??= await (this.#options.open ?? ((path) => open(path, "a", 0o644)))(this.#path);
          // A piece that was begun is ended first, whatever happens in between.
          at += (await this.#handle.write(bytes.subarray(at))).bytesWritten;
        } catch {
          if (this.#closing) {
            this.dropped += pieces.length;
            return;
          }
          await sleep(this.#options.retryEvery ?? 1000);
        }
      }
    }
    this.#busy = false;
  }
}
