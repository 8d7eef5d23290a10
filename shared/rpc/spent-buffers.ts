import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/**
 * Bytes of bulk messages after which the buffers that they left behind are freed. Each is about three times its size on the
 * way: as read from the socket, joined, framed.
 */
const EVERY_BYTES = 8 << 20;

/**
 * Frees what bulk messages leave behind, before V8 takes it for pressure. V8 counts the bytes of buffers, which lie outside
 * of its heap, and answers 64 MB of them with a collection of the whole heap: an exchange of 17 MB cost two or three of
 * those, about a quarter of its processor time. But all of these buffers are young, and a collection of the young generation
 * (Ungar 1984) frees them in a fraction of a millisecond.
 */
export class SpentBuffers {
  readonly #collect: () => void;
  readonly #everyBytes: number;
  #bytes = 0;

  constructor(collect = youngCollection(), everyBytes = EVERY_BYTES) {
    this.#collect = collect;
    this.#everyBytes = everyBytes;
  }

  /** A message of so many bytes came or went. */
  add(bytes: number): void {
    this.#bytes += bytes;
    if (this.#bytes < this.#everyBytes) return;
    this.#bytes = 0;
    this.#collect();
  }
}

/** V8 gives the function to contexts that are made while its flag is set, and to no others. */
function youngCollection(): () => void {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as NodeJS.GCFunction;
  setFlagsFromString("--no-expose-gc");
  return () => collect({ type: "minor", execution: "sync" });
}
