import type { PullStateRequest } from "../../shared/rpc/clients.ts";
import type { Arithmetic } from "../arithmetic/arithmetic.ts";
import { copyBytes } from "../memory/copy-bytes.ts";
import { ROOM_OFFSET } from "./chunk.ts";

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
  /** Where a state is kept for validation, which is served like a snapshot, and its step; missing or null: nowhere. */
  readonly held?: number | null;
  heldStep?(): number | null;
}

export type StateRange = Omit<PullStateRequest, "run">;

/** Most bytes of state in a piece. */
export const PIECE_BYTES = 1 << 20;
/**
 * A piece begins with its offset in the image (u64) and the XXH64 of its bytes (u64), little-endian, and three bytes of 0:
 * with the 5 that gRPC puts before a message, its bytes lie at a multiple of 8 and are copied by words.
 */
export const PIECE_HEADER = 19;
/** Pieces that a stream may hold at a time: one on its way, one ready behind it. */
const IN_FLIGHT = 2;

/** The writable end of a call that pulls state. */
export interface PieceSink {
  readonly cancelled: boolean;
  write(buffer: Buffer, taken: () => void): unknown;
  on(event: "cancelled", listener: () => void): unknown;
}

const newRoom = () => Buffer.allocUnsafeSlow(ROOM_OFFSET + PIECE_HEADER + PIECE_BYTES).subarray(ROOM_OFFSET);

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
  const fromHeld = snapshot && source.held != null && source.heldStep?.() === step;
  const stepNow = () => {
    if (fromHeld) return source.heldStep?.() ?? null;
    return snapshot ? source.snapshotStep() : source.liveStep();
  };
  const image = fromHeld ? source.held! : snapshot ? source.snapshot : source.live;
  const cancelled = new Promise<void>((resolve) => call.on("cancelled", resolve));
  const rooms = Array.from({ length: IN_FLIGHT }, () => ({ buffer: newRoom(), free: Promise.resolve() }));
  for (let at = from, turn = 0; at < to; at += PIECE_BYTES, turn += 1) {
    const room = rooms[turn % IN_FLIGHT]!;
    await Promise.race([room.free, cancelled]);
    if (call.cancelled) return "cancelled";
    if (stepNow() !== step) return "moved";
    const length = Math.min(PIECE_BYTES, to - at);
    const base = image + at;
    const { buffer } = room;
    buffer.fill(0, 0, PIECE_HEADER);
    buffer.writeBigUInt64LE(BigInt(at), 0);
    buffer.writeBigUInt64LE(arithmetic.xxh64(base, length), 8);
    copyBytes(buffer, PIECE_HEADER, Buffer.from(arithmetic.memory.buffer, base, length));
    if (stepNow() !== step) return "moved";
    room.free = new Promise<void>((resolve) => call.write(buffer.subarray(0, PIECE_HEADER + length), resolve));
  }
  await Promise.race([Promise.all(rooms.map(({ free }) => free)), cancelled]);
  return call.cancelled ? "cancelled" : "served";
}
