import { type Entries, type MemberClient, memberClient, unary } from "../../shared/rpc/clients.ts";
import { parseEntries } from "../../shared/rpc/convert.ts";
import type { Trust } from "../../shared/security/trust.ts";
import type { Arithmetic } from "../arithmetic/arithmetic.ts";
import { copyBytes } from "../memory/copy-bytes.ts";
import { windowFor } from "./inbound.ts";
import { PIECE_BYTES, PIECE_HEADER } from "./serve-state.ts";

export type PullResult = Entries;

export interface PullOptions {
  readonly run: string;
  readonly step: number;
  /** Addresses, host:port, of members that have the state. */
  readonly peers: readonly string[];
  readonly arithmetic: Arithmetic;
  /** Where the state image lies here, and its size. */
  readonly into: number;
  readonly bytes: number;
  readonly signal: AbortSignal;
  /** By which connections are secured; null: they are not. */
  readonly trust?: Trust | null;
  /** Silence of one peer after which its range is asked of another, in milliseconds. */
  readonly stallMillis?: number;
}

interface Range {
  readonly from: number;
  readonly to: number;
}

/** Least bytes asked of a peer at a time, and ranges for each peer: whoever is fast takes more of them. */
const RANGE_BYTES = 4 * PIECE_BYTES;
const RANGES_EACH = 4;
const STALL_MILLIS = 2000;
const ENTRIES_MILLIS = 5000;

/**
 * Pulls the state at `step` from several members at once. Ranges lie in one queue; a peer that fails or falls silent is
 * asked no more, and the rest of its range goes back. Null where none can give the whole of it, or the signal came; what
 * lies at `into` is then not a state.
 */
export async function pullState(options: PullOptions): Promise<PullResult | null> {
  const { run, step, peers, bytes, signal, trust = null } = options;
  const clients = peers.map((address) =>
    memberClient(address, { window: windowFor(peers.length), ownConnection: true, trust }),
  );
  const queue = rangesOf(bytes, peers.length);
  let waiting: (() => void)[] = [];
  let under = 0;
  const wake = () => {
    const woken = waiting;
    waiting = [];
    for (const go of woken) go();
  };
  const sound: MemberClient[] = [];
  const work = async (client: MemberClient) => {
    while (!signal.aborted) {
      const range = queue.shift();
      if (range === undefined) {
        if (under === 0) return void sound.push(client);
        // Another peer may give up its range.
        await new Promise<void>((resolve) => waiting.push(resolve));
        continue;
      }
      under += 1;
      const reached = await pullRange(client, range, options);
      under -= 1;
      if (reached < range.to) queue.unshift({ from: reached, to: range.to });
      wake();
      if (reached < range.to) return;
    }
  };
  try {
    await Promise.all(clients.map(work));
    if (queue.length > 0 || signal.aborted || clients.length === 0) return null;
    for (const client of sound) {
      const entries = await pullEntries(client, run, step, signal);
      if (entries !== null) return entries;
    }
    return null;
  } finally {
    for (const client of clients) client.close();
  }
}

/** Each range costs a call, in which nothing comes for a while. */
function rangesOf(bytes: number, peers: number): Range[] {
  const pieces = Math.ceil(bytes / (Math.max(1, peers) * RANGES_EACH * PIECE_BYTES));
  const length = Math.max(RANGE_BYTES, pieces * PIECE_BYTES);
  const ranges: Range[] = [];
  for (let from = 0; from < bytes; from += length) ranges.push({ from, to: Math.min(bytes, from + length) });
  return ranges;
}

function pullEntries(client: MemberClient, run: string, step: number, signal: AbortSignal): Promise<Entries | null> {
  const deadline = Date.now() + ENTRIES_MILLIS;
  return unary<object>((callback) => client.pullEntries({ run, step }, { deadline }, callback), signal)
    .then(parseEntries)
    .catch(() => null);
}

/** Pulls one range; resolves with the byte that it reached, which is `to` where all of it came, whole. */
function pullRange(client: MemberClient, { from, to }: Range, options: PullOptions): Promise<number> {
  const { run, step, arithmetic, into, signal, stallMillis = STALL_MILLIS } = options;
  return new Promise((resolve) => {
    let next = from;
    const call = client.pullState({ run, step, from, to, snapshot: false });
    const giveUp = () => call.cancel();
    const stall = setTimeout(giveUp, stallMillis);
    signal.addEventListener("abort", giveUp, { once: true });
    call.on("data", (piece: Buffer) => {
      stall.refresh();
      const reached = store(piece, { from: next, to }, into, arithmetic);
      if (reached === null) giveUp();
      else next = reached;
    });
    call.on("error", () => {}); // The status says it all.
    call.on("status", () => {
      clearTimeout(stall);
      signal.removeEventListener("abort", giveUp);
      resolve(next);
    });
  });
}

/** Writes a piece that continues `range`; the byte that it reaches, or null where it is not that piece or not whole. */
function store(piece: Buffer, range: Range, into: number, arithmetic: Arithmetic): number | null {
  const length = piece.length - PIECE_HEADER;
  if (length <= 0 || length > PIECE_BYTES || range.from + length > range.to) return null;
  if (piece.readBigUInt64LE(0) !== BigInt(range.from)) return null;
  const at = into + range.from;
  copyBytes(Buffer.from(arithmetic.memory.buffer), at, piece.subarray(PIECE_HEADER));
  return arithmetic.xxh64(at, length) === piece.readBigUInt64LE(8) ? range.from + length : null;
}
