import xxhash, { type XXHashAPI } from "xxhash-wasm";

const BLOCK_BYTES = 4096;

let loaded: Promise<XXHashAPI> | null = null;

/**
 * Hash of a state image that comes in pieces, as the workers define it: XXH64 of each block of 4 KiB, then XXH64 of the
 * table of these (u64, little-endian). So a checkpoint is the recorded state, whatever happened to it on its way.
 */
export class StateHash {
  readonly #hash: XXHashAPI;
  readonly #table: Buffer;
  readonly #block = Buffer.alloc(BLOCK_BYTES);
  #filled = 0;
  #blocks = 0;

  private constructor(hash: XXHashAPI, bytes: number) {
    this.#hash = hash;
    this.#table = Buffer.alloc(Math.ceil(bytes / BLOCK_BYTES) * 8);
  }

  /** @param bytes length of the image, whole blocks */
  static async of(bytes: number): Promise<StateHash> {
    loaded ??= xxhash();
    return new StateHash(await loaded, bytes);
  }

  update(piece: Uint8Array): void {
    let at = 0;
    if (this.#filled > 0) at = this.#fill(piece, 0);
    for (; at + BLOCK_BYTES <= piece.length; at += BLOCK_BYTES) this.#add(piece.subarray(at, at + BLOCK_BYTES));
    if (at < piece.length) this.#fill(piece, at);
  }

  /** 16 hex digits. */
  digest(): string {
    return this.#hash.h64Raw(this.#table).toString(16).padStart(16, "0");
  }

  #fill(piece: Uint8Array, from: number): number {
    const count = Math.min(BLOCK_BYTES - this.#filled, piece.length - from);
    this.#block.set(piece.subarray(from, from + count), this.#filled);
    this.#filled += count;
    if (this.#filled === BLOCK_BYTES) {
      this.#add(this.#block);
      this.#filled = 0;
    }
    return from + count;
  }

  #add(block: Uint8Array): void {
    this.#table.writeBigUInt64LE(this.#hash.h64Raw(block), 8 * this.#blocks);
    this.#blocks += 1;
  }
}
