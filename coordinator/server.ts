import { LockstepError, sentenceOf } from "../shared/errors.ts";
import { channelOptions, coordinatorService, grpc, listen } from "../shared/rpc/service.ts";
import type { CheckpointStore } from "./checkpoints/store.ts";
import type { Sessions } from "./sessions.ts";

export interface CoordinatorHandlers {
  readonly run: string;
  readonly sessions: Sessions;
  readonly checkpoints: CheckpointStore;
  status(): object;
  stop(reason: string): void;
  inject(target: string, fault: string): string;
  /** Bytes of one evaluation batch in the form of `encodeBatch`. */
  predictions(batch: number, bytes: Buffer): void;
}

interface PredictionsRequest {
  readonly run: string;
  readonly batch: number;
  readonly from: number;
  readonly samples: number;
  readonly classes: number;
  readonly mapHeight: number;
  readonly mapWidth: number;
  readonly logits: Buffer;
  readonly maps: Buffer;
}

/** The gRPC service of the coordinator. */
export class CoordinatorServer {
  private readonly server = new grpc.Server(channelOptions());
  private readonly handlers: CoordinatorHandlers;

  constructor(handlers: CoordinatorHandlers) {
    this.handlers = handlers;
  }

  async start(host: string, port: number): Promise<string> {
    const { handlers } = this;
    this.server.addService(coordinatorService, {
      session: (call: grpc.ServerDuplexStream<object, object>) => handlers.sessions.open(call),
      pullCheckpoint: (call: grpc.ServerWritableStream<{ run: string; step: number }, Buffer>) => void this.onPullCheckpoint(call),
      pushPredictions: unary<PredictionsRequest>((request) => {
        handlers.predictions(request.batch, encodeBatch(request));
        return { ok: true, message: "" };
      }),
      getStatus: unary(() => ({ json: JSON.stringify(handlers.status()) })),
      control: unary<{ action: string; target: string; detail: string }>(({ action, target, detail }) => {
        if (action === "inject") return { ok: true, message: handlers.inject(target, detail) };
        if (action !== "stop") throw new LockstepError("LS_USAGE", `There is no action "${action}".`);
        handlers.stop(detail);
        return { ok: true, message: "the run stops after the step under way" };
      }),
    });
    try {
      return await listen(this.server, host, port);
    } catch (cause) {
      throw new LockstepError("LS_LISTEN", `The coordinator cannot listen on ${host}:${port}: ${(cause as Error).message}.`, { exitCode: 3, cause });
    }
  }

  close(): void {
    this.server.forceShutdown();
  }

  private async onPullCheckpoint(call: grpc.ServerWritableStream<{ run: string; step: number }, Buffer>): Promise<void> {
    const { run, step } = call.request;
    const file = run === this.handlers.run ? this.handlers.checkpoints.read(step) : null;
    if (file === null) {
      const details = `LS_NO_CHECKPOINT: there is no checkpoint of step ${step}`;
      return void call.destroy(Object.assign(new Error(details), { code: grpc.status.NOT_FOUND, details }));
    }
    for await (const piece of file) {
      if (call.cancelled) return;
      if (!call.write(piece)) await new Promise((resolve) => call.once("drain", () => resolve(null)));
    }
    call.end();
  }
}

const unary =
  <Request = object>(handle: (request: Request) => object) =>
  (call: grpc.ServerUnaryCall<Request, object>, callback: grpc.sendUnaryData<object>) => {
    try {
      callback(null, handle(call.request));
    } catch (error) {
      const code = error instanceof LockstepError ? grpc.status.FAILED_PRECONDITION : grpc.status.INTERNAL;
      callback(Object.assign(new Error(sentenceOf(error)), { code, details: sentenceOf(error) }));
    }
  };

/** A batch of predictions as a file: u32 length of a JSON header, the header, logits, maps (float32, little-endian). */
function encodeBatch({ from, samples, classes, mapHeight, mapWidth, logits, maps }: PredictionsRequest): Buffer {
  const header = Buffer.from(JSON.stringify({ from, samples, classes, mapHeight, mapWidth }));
  const length = Buffer.alloc(4);
  length.writeUInt32LE(header.length);
  return Buffer.concat([length, header, logits, maps]);
}
