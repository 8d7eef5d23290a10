import { connect } from "node:net";
import { LockstepError } from "../shared/errors.ts";
import type { Tip } from "../shared/protocol/view.ts";
import { channelOptions, grpc, MemberClient } from "../shared/rpc/service.ts";

/** Calls of the coordinator to a worker beside its session. */

const HEADER = 16;

/** The snapshot of a step, piece by piece. @throws LockstepError LS_SNAPSHOT where it does not come whole */
export async function* pullSnapshot(address: string, run: string, tip: Tip, bytes: number): AsyncGenerator<Buffer> {
  const client = new MemberClient(address, grpc.credentials.createInsecure(), channelOptions(16 << 20));
  try {
    const request = { run, step: tip.step, from: 0, to: bytes, snapshot: true };
    const call = (client as unknown as { pullState(request: object, options: object): grpc.ClientReadableStream<Buffer> }).pullState(request, {
      deadline: Date.now() + 120_000,
    });
    let next = 0;
    for await (const piece of call as AsyncIterable<Buffer>) {
      if (Number(piece.readBigUInt64LE(0)) !== next) throw new Error("its pieces are out of order");
      next += piece.length - HEADER;
      yield piece.subarray(HEADER);
    }
    if (next !== bytes) throw new Error(`${next} of ${bytes} bytes came`);
  } catch (cause) {
    throw new LockstepError("LS_SNAPSHOT", `The snapshot of step ${tip.step} did not come whole: ${(cause as Error).message}.`, { cause });
  } finally {
    client.close();
  }
}

/** True where nothing listens at the address any more: the process is gone. */
export function isRefused(address: string): Promise<boolean> {
  const colon = address.lastIndexOf(":");
  return new Promise((resolve) => {
    const socket = connect({ host: address.slice(0, colon), port: Number(address.slice(colon + 1)), timeout: 500 });
    const answer = (refused: boolean) => {
      socket.destroy();
      resolve(refused);
    };
    socket.on("connect", () => answer(false));
    socket.on("timeout", () => answer(false));
    socket.on("error", (error: NodeJS.ErrnoException) => answer(error.code === "ECONNREFUSED"));
  });
}
