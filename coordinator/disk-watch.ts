import { statfs } from "node:fs/promises";

const EVERY_MILLIS = 10_000;

/** Room on the disk of a directory, asked for now and then: a file system that hangs must not hold up a scrape. */
export class DiskWatch {
  /** Bytes that are free for this user, and in all; null before the first answer. */
  room: { readonly free: number; readonly size: number } | null = null;
  readonly #timer: NodeJS.Timeout;
  #asking = false;

  constructor(directory: string, every = EVERY_MILLIS) {
    const ask = async () => {
      if (this.#asking) return;
      this.#asking = true;
      try {
        const { bavail, blocks, bsize } = await statfs(directory);
        this.room = { free: bavail * bsize, size: blocks * bsize };
      } catch {
        this.room = null;
      }
      this.#asking = false;
    };
    void ask();
    this.#timer = setInterval(() => void ask(), every);
    this.#timer.unref();
  }

  close(): void {
    clearInterval(this.#timer);
  }
}
