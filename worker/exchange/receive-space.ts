import { LockstepError } from "../../shared/errors.ts";

/** Pieces of the receive region at the end of the shared memory: one for each open view, reused, grown when needed. */
export class ReceiveSpace {
  private readonly memory: WebAssembly.Memory;
  private readonly pieces: { readonly address: number; readonly bytes: number; used: boolean }[] = [];
  private end: number;

  constructor(memory: WebAssembly.Memory, address: number) {
    this.memory = memory;
    this.end = address;
  }

  /** @throws LockstepError LS_MEMORY_REFUSED */
  take(bytes: number): number {
    const fitting = this.pieces.filter((piece) => !piece.used && piece.bytes >= bytes).sort((a, b) => a.bytes - b.bytes)[0];
    if (fitting !== undefined) {
      fitting.used = true;
      return fitting.address;
    }
    const size = Math.ceil(Math.max(bytes, 65536) / 65536) * 65536;
    const address = this.end;
    const missing = (address + size - this.memory.buffer.byteLength) / 65536;
    try {
      if (missing > 0) this.memory.grow(Math.ceil(missing));
    } catch (cause) {
      throw new LockstepError("LS_MEMORY_REFUSED", `The system refused ${Math.ceil(size / 1e6)} MB for received gradients.`, {
        hint: "Start fewer workers on this machine.",
        cause,
      });
    }
    this.end += size;
    this.pieces.push({ address, bytes: size, used: true });
    return address;
  }

  give(address: number): void {
    const piece = this.pieces.find((p) => p.address === address);
    if (piece !== undefined) piece.used = false;
  }
}
