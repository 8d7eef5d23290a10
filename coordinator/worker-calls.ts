import { connect } from "node:net";
import { LockstepError, sentenceOf } from "../shared/errors.ts";
import type { Tip } from "../shared/protocol/view.ts";
import { memberClient } from "../shared/rpc/clients.ts";

/** Calls of the coordinator to a worker beside its session. */

/** Position and reserved bytes in front of every piece, see proto/exchange.md. */
const HEADER = 16;
/** A snapshot of which nothing came for this long is given up, in milliseconds. */
const PIECE_PATIENCE = 30_000;
const WINDOW = 16 << 20;

/**
 * The snapshot of a step, piece by piece, as fast as the pieces are taken.
 * @param bytes length of the state image
 * @throws LockstepError LS_SNAPSHOT where it does not come whole
 */
export async function* pullSnapshot(address: string, run: string, tip: Tip, bytes: number): AsyncGenerator<Buffer> {
  const client = memberClient(address, { window: WINDOW });
  const call = client.pullState({ run, step: tip.step, from: 0, to: bytes, snapshot: true });
  const watch = setTimeout(() => call.cancel(), PIECE_PATIENCE);
  try {
    let next = 0;
    for await (const piece of call as AsyncIterable<Buffer>) {
      if (piece.length <= HEADER || Number(piece.readBigUInt64LE(0)) !== next)
        throw new Error("its pieces are out of order");
      next += piece.length - HEADER;
      watch.refresh();
      yield piece.subarray(HEADER);
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
  const colon = address.lastIndexOf(":");
  return new Promise((resolve) => {
    const socket = connect({
      host: address.slice(0, colon),
      port: Number(address.slice(colon + 1)),
      timeout: PROBE_PATIENCE,
    });
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
