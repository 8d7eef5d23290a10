import { LockstepError } from "../../shared/errors.ts";

interface Piece {
  readonly address: number;
  readonly bytes: number;
}

const PAGE = 65536;
const MOST_BYTES = 65536 * PAGE;

/**
 * The receive region at the end of a worker's shared memory, in pages: a piece for each open view and one for scratch.
 * Given-back pieces melt together with their neighbours, so that view changes do not make the memory grow for ever.
 */
export class ReceiveSpace {
  private readonly memory: WebAssembly.Memory;
  private readonly used = new Map<number, Piece>();
  /** By address, no two of them neighbours. */
  private free: Piece[] = [];
  private end: number;

  /** @param address first byte of the region; nothing else lies behind it */
  constructor(memory: WebAssembly.Memory, address: number) {
    this.memory = memory;
    this.end = address;
  }

  /** Address of a piece of at least `bytes`. @throws LockstepError LS_MEMORY_REFUSED */
  take(bytes: number): number {
    const size = Math.max(PAGE, Math.ceil(bytes / PAGE) * PAGE);
    const fitting = this.free.filter((piece) => piece.bytes >= size).sort((a, b) => a.bytes - b.bytes)[0];
    const piece = { address: fitting?.address ?? this.extend(size), bytes: size };
    if (fitting !== undefined) {
      this.free = this.free.filter((other) => other !== fitting);
      this.release({ address: fitting.address + size, bytes: fitting.bytes - size });
    }
    this.used.set(piece.address, piece);
    return piece.address;
  }

  give(address: number): void {
    const piece = this.used.get(address);
    if (piece === undefined) return;
    this.used.delete(address);
    this.release(piece);
  }

  /** Bytes of the region so far, used or free. */
  get bytes(): number {
    return [...this.used.values(), ...this.free].reduce((sum, piece) => sum + piece.bytes, 0);
  }

  private release(piece: Piece): void {
    if (piece.bytes === 0) return;
    const melted: Piece[] = [];
    for (const next of [...this.free, piece].sort((a, b) => a.address - b.address)) {
      const last = melted.at(-1);
      if (last !== undefined && last.address + last.bytes === next.address) {
        melted[melted.length - 1] = { address: last.address, bytes: last.bytes + next.bytes };
      } else melted.push(next);
    }
    this.free = melted;
  }

  /** Room at the end, beginning with a free piece that lies there. */
  private extend(size: number): number {
    const last = this.free.at(-1);
    const address = last !== undefined && last.address + last.bytes === this.end ? last.address : this.end;
    this.reserve(address + size);
    if (address !== this.end) this.free = this.free.slice(0, -1);
    this.end = address + size;
    return address;
  }

  private reserve(end: number): void {
    const missing = (end - this.memory.buffer.byteLength) / PAGE;
    try {
      if (end > MOST_BYTES) throw new RangeError(`${end} bytes are beyond 32-bit addresses`);
      if (missing > 0) this.memory.grow(Math.ceil(missing));
    } catch (cause) {
      throw new LockstepError(
        "LS_MEMORY_REFUSED",
        `The system refused memory for received gradients (${Math.ceil(end / 1e6)} MB in all).`,
        {
          hint: "Start fewer workers on this machine, or use a smaller model.",
          cause,
        },
      );
    }
  }
}
