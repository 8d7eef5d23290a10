import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { LockstepError, sentenceOf } from "../shared/errors.ts";
import { splitAddress } from "../shared/process/addresses.ts";
import type { Tip } from "../shared/protocol/view.ts";
import { memberClient } from "../shared/rpc/clients.ts";
import type { Trust } from "../shared/security/trust.ts";

/** Calls of the coordinator to a worker beside its session. */

/** Position and reserved bytes in front of every piece, see proto/exchange.md. */
const HEADER = 19;
/** A snapshot of which nothing came for this long is given up, in milliseconds. */
const PIECE_PATIENCE = 30_000;
/** Bytes that may be under way: a paced pull must not come in one burst. */
const WINDOW = { paced: 2 << 20, fast: 16 << 20 };
/** A paced pull rests this many times as long as it works. */
const REST = 24;
/** Longest rest after one piece, in milliseconds: a slow disk or network needs no pacing. */
const MOST_REST = 100;

/**
 * The snapshot of a step, piece by piece, as fast as the pieces are taken.
 * @param bytes length of the state image
 * @param paced leaves 24 of 25 parts of the time to the training, for as long as that goes on: on a machine whose cores all
 * compute, a snapshot that comes at full speed slows one step by as much as it takes
 * @param trust by which the connection is secured; null: it is not
 * @throws LockstepError LS_SNAPSHOT where it does not come whole
 */
export async function* pullSnapshot(
  address: string,
  run: string,
  tip: Tip,
  bytes: number,
  paced: () => boolean,
  trust: Trust | null = null,
): AsyncGenerator<Buffer> {
  const client = memberClient(address, { window: paced() ? WINDOW.paced : WINDOW.fast, trust });
  const call = client.pullState({ run, step: tip.step, from: 0, to: bytes, snapshot: true });
  const watch = setTimeout(() => call.cancel(), PIECE_PATIENCE);
  try {
    let next = 0;
    let since = performance.now();
    for await (const piece of call as AsyncIterable<Buffer>) {
      if (piece.length <= HEADER || Number(piece.readBigUInt64LE(0)) !== next)
        throw new Error("its pieces are out of order");
      next += piece.length - HEADER;
      watch.refresh();
      yield piece.subarray(HEADER);
      if (paced()) await sleep(Math.min(MOST_REST, REST * (performance.now() - since)));
      since = performance.now();
      watch.refresh();
    }
    if (next !== bytes) throw new Error(`${next} of ${bytes} bytes came`);
  } catch (cause) {
    throw new LockstepError(
      "LS_SNAPSHOT",
      `The snapshot of step ${tip.step} did not come whole: ${sentenceOf(cause)}.`,
      { cause },
    );
  } finally {
    clearTimeout(watch);
    call.cancel();
    client.close();
  }
}

/** The calls, as a test may replace them. */
export interface WorkerCalls {
  readonly pullSnapshot: typeof pullSnapshot;
  readonly isRefused: typeof isRefused;
}

/** How long a probe may take, in milliseconds: a host that answers at all answers at once. */
const PROBE_PATIENCE = 500;

/** True where nothing listens at the address any more: the process is gone. */
export function isRefused(address: string): Promise<boolean> {
  const { host, port } = splitAddress(address) ?? { host: "", port: 0 };
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout: PROBE_PATIENCE });
    const answer = (refused: boolean) => {
      socket.destroy();
      resolve(refused);
    };
    socket.on("connect", () => answer(false));
    socket.on("timeout", () => answer(false));
    socket.on("error", (error: NodeJS.ErrnoException) => answer(error.code === "ECONNREFUSED"));
  });
}

export const WORKER_CALLS: WorkerCalls = { pullSnapshot, isRefused };

/** The same over connections that are secured. */
export const securedCalls = (trust: Trust): WorkerCalls => ({
  isRefused,
  pullSnapshot: (address, run, tip, bytes, paced) => pullSnapshot(address, run, tip, bytes, paced, trust),
});
