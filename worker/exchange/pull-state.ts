import type { LedgerEntry } from "../../shared/protocol/trailer.ts";
import { channelOptions, grpc, MemberClient } from "../../shared/rpc/service.ts";
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

export interface PullRange {
  readonly step: number;
  readonly from: number;
  readonly to: number;
  readonly snapshot: boolean;
}

const PIECE = 1 << 20;
const HEADER = 16;

/**
 * Streams a byte range of the state, piece by piece: offset (u64), XXH64 of the data (u64), data. False as soon as the
 * state is at another step, before any byte of a later state is sent.
 */
export async function serveState(call: grpc.ServerWritableStream<unknown, Buffer>, source: StateSource, range: PullRange): Promise<boolean> {
  const { step, from, to, snapshot } = range;
  const stepNow = () => (snapshot ? source.snapshotStep() : source.liveStep());
  if (!(from >= 0 && from <= to && to <= source.bytes)) return false;
  const base = snapshot ? source.snapshot : source.live;
  for (let at = from; at < to; at += PIECE) {
    if (call.cancelled) return true;
    const length = Math.min(PIECE, to - at);
    if (stepNow() !== step) return false;
    const buffer = Buffer.allocUnsafe(HEADER + length);
    buffer.writeBigUInt64LE(BigInt(at), 0);
    buffer.set(new Uint8Array(source.arithmetic.memory.buffer, base + at, length), HEADER);
    buffer.writeBigUInt64LE(source.arithmetic.xxh64(base + at, length), 8);
    if (stepNow() !== step) return false;
    if (!call.write(buffer)) await new Promise<void>((resolve) => void Promise.race([once(call, "drain"), once(call, "cancelled")]).then(resolve));
  }
  return true;
}

const once = (call: grpc.ServerWritableStream<unknown, Buffer>, event: string) => new Promise<void>((resolve) => call.once(event as "drain", resolve));

export interface PullResult {
  readonly lineage: string;
  readonly entries: readonly LedgerEntry[];
}

/**
 * Pulls the state at `step` from several members at once, each a byte range; what one fails to give is asked of the next.
 * Null where none can give it, or the signal came.
 */
export async function pullState(options: {
  readonly run: string;
  readonly step: number;
  readonly peers: readonly string[];
  readonly arithmetic: Arithmetic;
  /** Where the state image lies here, and its size. */
  readonly into: number;
  readonly bytes: number;
  readonly signal: AbortSignal;
}): Promise<PullResult | null> {
  const { run, step, peers, arithmetic, into, bytes, signal } = options;
  const clients = peers.map((address) => new MemberClient(address, grpc.credentials.createInsecure(), channelOptions(16 << 20)));
  try {
    const share = Math.ceil(bytes / Math.max(1, peers.length) / 4096) * 4096;
    const ranges = peers.map((_, i) => ({ from: Math.min(bytes, i * share), to: Math.min(bytes, (i + 1) * share) }));
    const parts = await Promise.all(
      ranges.map(async (range, i) => {
        for (let turn = 0; turn < peers.length; turn++) {
          const client = clients[(i + turn) % peers.length]!;
          if (await pullRange(client, { run, step, ...range, snapshot: false }, arithmetic, into, signal)) return true;
        }
        return false;
      }),
    );
    if (parts.length === 0 || parts.includes(false)) return null;
    for (const client of clients) {
      const entries = await pullEntries(client, run, step, signal);
      if (entries !== null) return entries;
    }
    return null;
  } finally {
    for (const client of clients) client.close();
  }
}

type Unary = { pullEntries(request: object, options: grpc.CallOptions, callback: grpc.requestCallback<PullResult>): grpc.ClientUnaryCall };
type Streaming = { pullState(request: object): grpc.ClientReadableStream<Buffer> };

function pullEntries(client: grpc.Client, run: string, step: number, signal: AbortSignal): Promise<PullResult | null> {
  return new Promise((resolve) => {
    const call = (client as unknown as Unary).pullEntries({ run, step }, { deadline: Date.now() + 5000 }, (error, value) =>
      resolve(error === null ? (value ?? null) : null),
    );
    signal.addEventListener("abort", () => call.cancel(), { once: true });
  });
}

function pullRange(client: grpc.Client, request: PullRange & { run: string }, arithmetic: Arithmetic, into: number, signal: AbortSignal): Promise<boolean> {
  if (request.from === request.to) return Promise.resolve(true);
  return new Promise((resolve) => {
    let next = request.from;
    let sound = true;
    const call = (client as unknown as Streaming).pullState(request);
    const abort = () => call.cancel();
    signal.addEventListener("abort", abort, { once: true });
    const end = () => {
      signal.removeEventListener("abort", abort);
      resolve(sound && next === request.to);
    };
    call.on("data", (buffer: Buffer) => {
      const length = buffer.length - HEADER;
      const fits = length > 0 && Number(buffer.readBigUInt64LE(0)) === next && next + length <= request.to;
      if (!fits || !sound) {
        sound = false;
        return call.cancel();
      }
      new Uint8Array(arithmetic.memory.buffer).set(buffer.subarray(HEADER), into + next);
      if (arithmetic.xxh64(into + next, length) !== buffer.readBigUInt64LE(8)) {
        sound = false;
        return call.cancel();
      }
      next += length;
    });
    call.on("error", end);
    call.on("end", end);
  });
}
