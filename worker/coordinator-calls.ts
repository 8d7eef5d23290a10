import { setTimeout as sleep } from "node:timers/promises";
import { LockstepError, sentenceOf } from "../shared/errors.ts";
import type { Tip } from "../shared/protocol/view.ts";
import { type CertificateReply, type CoordinatorClient, type RenewRequest, unary } from "../shared/rpc/clients.ts";
import type { EvaluatedBatch } from "./compute/messages.ts";

/** Calls of a worker to the coordinator beside the session. */

/** The client of the present stream; null while the coordinator is away. */
export type Channel = () => CoordinatorClient | null;

/** A checkpoint of which nothing came for this long is asked for again, in milliseconds. */
const SILENCE_MILLIS = 10_000;
const FETCHES = 5;
const FETCH_PAUSE = 200;
/** A safetensors header is a few hundred bytes. */
const MOST_HEADER = 1 << 20;

/**
 * The state image in a recorded checkpoint: the bytes of its file after the safetensors header.
 * @param stateBytes length of the image
 * @throws LockstepError LS_CHECKPOINT where it does not come whole after several attempts
 */
export async function fetchCheckpoint(
  channel: Channel,
  run: string,
  { step }: Tip,
  stateBytes: number,
  pause = FETCH_PAUSE,
): Promise<Uint8Array> {
  let cause: unknown = new Error("the coordinator is away");
  for (let attempt = 0; attempt < FETCHES; attempt++) {
    if (attempt > 0) await sleep(pause * attempt);
    const client = channel();
    if (client === null) continue;
    try {
      return imageIn(await fileOf(client, run, step, stateBytes + MOST_HEADER), stateBytes);
    } catch (error) {
      cause = error;
    }
  }
  throw new LockstepError("LS_CHECKPOINT", `The checkpoint of step ${step} did not come: ${sentenceOf(cause)}.`, {
    cause,
  });
}

async function fileOf(client: CoordinatorClient, run: string, step: number, most: number): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of piecesOf(client.pullCheckpoint({ run, step }), most)) pieces.push(piece);
  return Buffer.concat(pieces);
}

/** What comes down a call: at most `most` bytes, and no longer silence than ten seconds. */
export async function* piecesOf(
  call: AsyncIterable<Buffer> & { cancel(): void },
  most: number,
): AsyncGenerator<Buffer> {
  const watch = setTimeout(() => call.cancel(), SILENCE_MILLIS);
  let bytes = 0;
  try {
    for await (const piece of call) {
      watch.refresh();
      bytes += piece.length;
      if (bytes > most) throw new Error(`more than ${most} bytes came`);
      yield piece;
    }
  } finally {
    clearTimeout(watch);
    call.cancel();
  }
}

function imageIn(file: Buffer, stateBytes: number): Uint8Array {
  const header = file.length < 8 ? 0 : Number(file.readBigUInt64LE(0));
  const image = file.subarray(8 + header);
  if (image.length !== stateBytes) throw new Error(`it holds ${image.length} bytes of state instead of ${stateBytes}`);
  return image;
}

const TRIES = 100;

/**
 * Delivers one batch of predictions, again after a redial where necessary.
 * @throws LockstepError LS_PREDICTIONS where nobody takes it
 */
export async function pushPredictions(
  channel: Channel,
  run: string,
  batch: number,
  result: EvaluatedBatch,
): Promise<void> {
  const bytes = (values: Float32Array) => Buffer.from(values.buffer, values.byteOffset, values.byteLength);
  const { logits, plainLogits, maps, ...facts } = result;
  const floats = { logits: bytes(logits), plainLogits: bytes(plainLogits), maps: bytes(maps) };
  const request = { run, batch, ...facts, ...floats };
  for (let attempt = 0; attempt < TRIES; attempt++) {
    const client = channel();
    const delivered =
      client !== null &&
      (await new Promise<boolean>((resolve) => {
        client.pushPredictions(request, { deadline: Date.now() + 30_000 }, (error) => resolve(error === null));
      }));
    if (delivered) return;
    await sleep(200);
  }
  throw new LockstepError("LS_PREDICTIONS", `The predictions of batch ${batch} could not be delivered.`);
}

/** Asks for this worker's next certificate. Rejects where the coordinator is away or refuses. */
export function renewCertificate(channel: Channel, request: RenewRequest): Promise<CertificateReply> {
  const client = channel();
  if (client === null) return Promise.reject(new Error("the coordinator is away"));
  return unary((done) => client.renew(request, { deadline: Date.now() + SILENCE_MILLIS }, done));
}
