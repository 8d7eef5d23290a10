import { LockstepError, sentenceOf } from "../shared/errors.ts";
import type { ControlRequest, PredictionsRequest } from "../shared/rpc/clients.ts";
import { channelOptions, coordinatorService, grpc, listen, refuseCall } from "../shared/rpc/service.ts";
import type { CheckpointStore } from "./checkpoints/store.ts";
import type { SessionCall, Sessions } from "./sessions.ts";

interface PullCheckpointRequest {
  readonly run: string;
  readonly step: number;
  /** Bytes [from, to) of the file; to its end where `to` is 0. */
  readonly from: number;
  readonly to: number;
}

type PullCheckpointCall = grpc.ServerWritableStream<PullCheckpointRequest, Buffer>;

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
      session: (call: SessionCall) => handlers.sessions.open(call),
      pullCheckpoint: (call: PullCheckpointCall) => void this.onPullCheckpoint(call),
      pushPredictions: unary<PredictionsRequest>((request) => {
        handlers.predictions(request.batch, encodeBatch(request));
        return { ok: true, message: "" };
      }),
      getStatus: unary(() => ({ json: JSON.stringify(handlers.status()) })),
      control: unary<ControlRequest>(({ action, target, detail }) => {
        if (action === "inject") return { ok: true, message: handlers.inject(target, detail) };
        if (action !== "stop") throw new LockstepError("LS_USAGE", `There is no action "${action}".`);
        handlers.stop(detail);
        return { ok: true, message: "the run stops after the step under way" };
      }),
    });
    try {
      return await listen(this.server, host, port);
    } catch (cause) {
      throw new LockstepError(
        "LS_LISTEN",
        `The coordinator cannot listen on ${host}:${port}: ${(cause as Error).message}.`,
        { exitCode: 3, cause },
      );
    }
  }

  close(): void {
    this.server.forceShutdown();
  }

  private async onPullCheckpoint(call: PullCheckpointCall): Promise<void> {
    const { run, step, from, to } = call.request;
    // Asked for early: a caller may be gone while the file is being verified.
    const gone = new Promise<void>((resolve) => call.once("cancelled", resolve));
    try {
      const { checkpoints } = this.handlers;
      const usable = run === this.handlers.run && (await checkpoints.usable(step));
      const pieces = usable ? checkpoints.read(step, from, to) : null;
      if (pieces === null) throw new LockstepError("LS_NO_CHECKPOINT", `There is no sound checkpoint of step ${step}.`);
      for await (const piece of pieces) {
        if (call.cancelled) return;
        const taken = call.write(piece) ? null : new Promise<void>((resolve) => call.once("drain", resolve));
        if (taken !== null) await Promise.race([taken, gone]);
      }
      call.end();
    } catch (error) {
      const known = error instanceof LockstepError;
      // The code first, as in all refusals: callers tell them apart by it.
      const details = known ? `${error.code}: ${error.message}` : `LS_CHECKPOINT_READ: ${sentenceOf(error)}`;
      refuseCall(call, known ? grpc.status.NOT_FOUND : grpc.status.UNAVAILABLE, details);
    }
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

/** A batch of predictions as a file: u32 length of a JSON header, the header, then floats (little-endian). */
function encodeBatch({ run: _, batch: __, logits, plainLogits, maps, ...facts }: PredictionsRequest): Buffer {
  const header = Buffer.from(JSON.stringify({ ...facts, plain: plainLogits.length > 0 }));
  const length = Buffer.alloc(4);
  length.writeUInt32LE(header.length);
  return Buffer.concat([length, header, logits, plainLogits, maps]);
}
