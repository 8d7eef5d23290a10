import type { Tip } from "../shared/protocol/view.ts";
import type { grpc } from "../shared/rpc/service.ts";
import type { EvaluatedBatch } from "./compute/messages.ts";

/** Calls of a worker to the coordinator beside the session. */

type Streaming = { pullCheckpoint(request: object): grpc.ClientReadableStream<Buffer> };
type Unary = {
  pushPredictions(request: object, options: grpc.CallOptions, callback: grpc.requestCallback<object>): void;
};

/** The state image in a recorded checkpoint (its bytes after the safetensors header); null where it does not come whole. */
export function fetchCheckpoint(client: grpc.Client | null, run: string, tip: Tip): Promise<Uint8Array | null> {
  if (client === null) return Promise.resolve(null);
  return new Promise((resolve) => {
    const pieces: Buffer[] = [];
    const call = (client as unknown as Streaming).pullCheckpoint({ run, step: tip.step });
    call.on("data", (piece: Buffer) => pieces.push(piece));
    call.on("error", () => resolve(null));
    call.on("end", () => {
      const file = Buffer.concat(pieces);
      const header = Number(file.readBigUInt64LE(0));
      resolve(file.subarray(8 + header));
    });
  });
}

const TRIES = 100;

/** Delivers one batch of predictions, again after a redial where necessary. */
export async function pushPredictions(
  client: () => grpc.Client | null,
  run: string,
  batch: number,
  result: EvaluatedBatch,
): Promise<void> {
  const bytes = (values: Float32Array) => Buffer.from(values.buffer, values.byteOffset, values.byteLength);
  const { from, samples, classes, mapHeight, mapWidth, logits, maps } = result;
  const request = { run, batch, from, samples, classes, mapHeight, mapWidth, logits: bytes(logits), maps: bytes(maps) };
  for (let attempt = 0; attempt < TRIES; attempt++) {
    const channel = client();
    const delivered =
      channel !== null &&
      (await new Promise<boolean>((resolve) => {
        (channel as unknown as Unary).pushPredictions(request, { deadline: Date.now() + 30_000 }, (error) =>
          resolve(error === null),
        );
      }));
    if (delivered) return;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}
