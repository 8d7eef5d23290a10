import type { PullStateRequest } from "../../shared/rpc/clients.ts";
import type { Arithmetic } from "../arithmetic/arithmetic.ts";

/** A worker's state image as its server sees it. */
export interface StateSource {
  readonly arithmetic: Arithmetic;
  /** Byte addresses and size of the live image and of the snapshot. */
  readonly live: number;
  readonly snapshot: number;
  readonly bytes: number;
  /** The step at which the live state is, null while an update runs; likewise the snapshot's. */
  liveStep(): number | null;
  snapshotStep(): number | null;
}

export type StateRange = Omit<PullStateRequest, "run">;

/** Most bytes of state in a piece. */
export const PIECE_BYTES = 1 << 20;
/** A piece begins with its offset in the image (u64) and the XXH64 of its bytes (u64), little-endian. */
export const PIECE_HEADER = 16;

/** The writable end of a call that pulls state. */
export interface PieceSink {
  readonly cancelled: boolean;
  write(buffer: Buffer, taken: () => void): unknown;
  on(event: "cancelled", listener: () => void): unknown;
}

/**
 * Streams a byte range of the state, piece by piece. The update runs in another thread, so that each piece is checked
 * before and after it is copied: `moved` as soon as the state is at another step, before any byte of it is sent.
 */
export async function serveState(
  call: PieceSink,
  source: StateSource,
  range: StateRange,
): Promise<"served" | "moved" | "noRange" | "cancelled"> {
  const { step, from, to, snapshot } = range;
  const { arithmetic } = source;
  if (!(Number.isSafeInteger(from) && Number.isSafeInteger(to) && from >= 0 && from <= to && to <= source.bytes))
    return "noRange";
  const stepNow = () => (snapshot ? source.snapshotStep() : source.liveStep());
  const cancelled = new Promise<void>((resolve) => call.on("cancelled", resolve));
  const room = Buffer.allocUnsafeSlow(PIECE_HEADER + PIECE_BYTES);
  for (let at = from; at < to; at += PIECE_BYTES) {
    if (stepNow() !== step) return "moved";
    const length = Math.min(PIECE_BYTES, to - at);
    const base = (snapshot ? source.snapshot : source.live) + at;
    room.writeBigUInt64LE(BigInt(at), 0);
    room.writeBigUInt64LE(arithmetic.xxh64(base, length), 8);
    room.set(new Uint8Array(arithmetic.memory.buffer, base, length), PIECE_HEADER);
    if (stepNow() !== step) return "moved";
    const taken = new Promise<void>((resolve) => call.write(room.subarray(0, PIECE_HEADER + length), resolve));
    await Promise.race([taken, cancelled]);
    if (call.cancelled) return "cancelled";
  }
  return "served";
}
