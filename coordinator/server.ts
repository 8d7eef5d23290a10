import { LockstepError, sentenceOf } from "../shared/errors.ts";
import { hostPort } from "../shared/process/addresses.ts";
import type {
  CertificateReply,
  ControlRequest,
  JoinRequest,
  PredictionsRequest,
  PullDataRequest,
  ReachRequest,
  RenewRequest,
  TracePartRequest,
} from "../shared/rpc/clients.ts";
import { tellingRefusals } from "../shared/rpc/refused-calls.ts";
import {
  type Binding,
  bootstrapService,
  channelOptions,
  coordinatorService,
  grpc,
  listen,
  refuseCall,
} from "../shared/rpc/service.ts";
import { type Authenticated, requireRole } from "../shared/security/caller.ts";
import type { Role } from "../shared/security/names.ts";
import { machineMillis } from "../shared/trace/machine-clock.ts";
import type { CheckpointStore } from "./checkpoints/store.ts";
import type { DataServer } from "./data-server.ts";
import type { DialBack } from "./dial-back.ts";
import type { Issued } from "./security/authority.ts";
import type { RunSecurity } from "./security/run-security.ts";
import type { SessionCall, Sessions } from "./sessions.ts";
import type { TraceParts } from "./trace/trace-parts.ts";

interface PullCheckpointRequest {
  readonly run: string;
  readonly step: number;
  /** Bytes [from, to) of the file; to its end where `to` is 0. */
  readonly from: number;
  readonly to: number;
}

type PullDataCall = grpc.ServerWritableStream<PullDataRequest, Buffer>;
type PullCheckpointCall = grpc.ServerWritableStream<PullCheckpointRequest, Buffer>;

export interface CoordinatorHandlers {
  readonly run: string;
  readonly sessions: Sessions;
  readonly checkpoints: CheckpointStore;
  readonly data: Pick<DataServer, "serve">;
  readonly dialBack: Pick<DialBack, "ask">;
  status(): object;
  stop(reason: string): void;
  inject(target: string, fault: string): string;
  /** Lets somebody in or out, see AccessControl; null: that is none of its actions. */
  access?(request: ControlRequest): string | null;
  /** Takes what workers have traced; null: nobody is asked to. */
  readonly trace?: Pick<TraceParts, "take"> | null;
  /** Bytes of one evaluation batch in the form of `encodeBatch`. */
  predictions(batch: number, bytes: Buffer): void;
  /** A call was refused, with this code; "" where it has none. */
  onRefused?(code: string): void;
}

/** The gRPC service of the coordinator. */
export class CoordinatorServer {
  private readonly server: grpc.Server;
  /** Whoever has no certificate: one call with a short message, on a server of its own. */
  private readonly strangers = new grpc.Server({ ...channelOptions(), "grpc.max_receive_message_length": 4096 });
  private readonly handlers: CoordinatorHandlers;
  private readonly security: RunSecurity | null;

  /** @param security null: whoever reaches the port may do everything */
  constructor(handlers: CoordinatorHandlers, security: RunSecurity | null = null) {
    this.handlers = handlers;
    this.security = security;
    const interceptors = [tellingRefusals((code) => handlers.onRefused?.(code))];
    this.server = new grpc.Server({ ...channelOptions(), interceptors });
  }

  /** @throws LockstepError LS_LISTEN */
  async start(binding: Binding): Promise<string> {
    const { handlers, security } = this;
    const trust = security?.trust ?? null;
    const unaryFor = unaryBy((call, roles) => requireRole(call, trust, ...roles));
    this.server.addService(coordinatorService, {
      session: (call: SessionCall & Authenticated) => this.onSession(call),
      pullCheckpoint: (call: PullCheckpointCall) => void this.onPullCheckpoint(call),
      pullData: (call: PullDataCall) => void this.onPullData(call),
      pushPredictions: unaryFor<PredictionsRequest>(["worker"], (request) => {
        handlers.predictions(request.batch, encodeBatch(request));
        return { ok: true, message: "" };
      }),
      getClock: unaryFor(["worker"], () => ({ millis: machineMillis() })),
      pushTrace: unaryFor<TracePartRequest>(["worker"], ({ run, incarnation, json }, peer) => {
        const { trace = null } = handlers;
        if (run !== handlers.run || trace === null)
          throw new LockstepError("LS_TRACE_PART", "Nothing of that run is traced here.");
        trace.take(incarnation, json, peer?.incarnation ?? null);
        return { ok: true, message: "" };
      }),
      getStatus: unaryFor(["operator", "worker"], () => ({ json: JSON.stringify(handlers.status()) })),
      control: unaryFor<ControlRequest>(["operator"], (request) => {
        const { action, target, detail } = request;
        if (action === "inject") return { ok: true, message: handlers.inject(target, detail) };
        const message = handlers.access?.(request) ?? null;
        if (message !== null) return { ok: true, message };
        if (action !== "stop") throw new LockstepError("LS_USAGE", `There is no action "${action}".`);
        handlers.stop(detail);
        return { ok: true, message: "the run stops after the step under way" };
      }),
      reach: unaryFor<ReachRequest>(["worker"], (request, peer) =>
        handlers.dialBack.ask(request, peer?.incarnation ?? null),
      ),
      renew: unaryFor<RenewRequest>(["worker"], (request, peer) => {
        if (security === null || peer === null)
          throw new LockstepError("LS_NOT_SECURED", "This run has no certificates.");
        return security.renew(peer, request).then((issued) => replyOf(issued, security));
      }),
    });
    this.strangers.addService(bootstrapService, {
      join: unaryBy((call) => ({ from: call.getPeer().replace(/:\d+$/, "") }))<JoinRequest>([], (request, { from }) =>
        security!.join(request, from).then((issued) => replyOf(issued, security!)),
      ),
    });
    try {
      return await listen(this.server, binding, security?.gate(this.server, this.strangers) ?? null);
    } catch (cause) {
      throw new LockstepError(
        "LS_LISTEN",
        `The coordinator cannot listen on ${hostPort(binding.host, binding.ports.from)}: ${(cause as Error).message}.`,
        { exitCode: 3, cause },
      );
    }
  }

  close(): void {
    this.security?.close();
    this.server.forceShutdown();
    this.strangers.forceShutdown();
  }

  private onSession(call: SessionCall & Authenticated): void {
    try {
      this.handlers.sessions.open(call, requireRole(call, this.security?.trust ?? null, "worker"));
    } catch (error) {
      refuseCall(
        call as unknown as grpc.ServerDuplexStream<object, object>,
        grpc.status.PERMISSION_DENIED,
        refusalOf(error),
      );
    }
  }

  private async onPullData(call: PullDataCall): Promise<void> {
    const { run, part, ids } = call.request;
    const gone = goneOf(call);
    try {
      requireRole(call, this.security?.trust ?? null, "worker");
      if (run !== this.handlers.run) throw new LockstepError("LS_DATA_ASKED", "This is another run.");
      await pour(this.handlers.data.serve(part, ids), call, gone);
    } catch (error) {
      const known = error instanceof LockstepError;
      const details = known ? refusalOf(error) : `LS_DATA_READ: ${sentenceOf(error)}`;
      refuseCall(call, known ? grpc.status.FAILED_PRECONDITION : grpc.status.UNAVAILABLE, details);
    }
  }

  private async onPullCheckpoint(call: PullCheckpointCall): Promise<void> {
    const { run, step, from, to } = call.request;
    try {
      requireRole(call, this.security?.trust ?? null, "worker", "operator");
    } catch (error) {
      return refuseCall(call, grpc.status.PERMISSION_DENIED, refusalOf(error));
    }
    // Asked for early: a caller may be gone while the file is being verified.
    const gone = goneOf(call);
    try {
      const { checkpoints } = this.handlers;
      const usable = run === this.handlers.run && (await checkpoints.usable(step));
      const pieces = usable ? checkpoints.read(step, from, to) : null;
      if (pieces === null) throw new LockstepError("LS_NO_CHECKPOINT", `There is no sound checkpoint of step ${step}.`);
      await pour(pieces, call, gone);
    } catch (error) {
      const known = error instanceof LockstepError;
      const details = known ? refusalOf(error) : `LS_CHECKPOINT_READ: ${sentenceOf(error)}`;
      refuseCall(call, known ? grpc.status.NOT_FOUND : grpc.status.UNAVAILABLE, details);
    }
  }
}

const goneOf = (call: grpc.ServerWritableStream<object, Buffer>) =>
  new Promise<void>((resolve) => call.once("cancelled", resolve));

/** As fast as the caller reads; ends where it is gone. */
async function pour(
  pieces: AsyncIterable<Buffer>,
  call: grpc.ServerWritableStream<object, Buffer>,
  gone: Promise<void>,
): Promise<void> {
  for await (const piece of pieces) {
    if (call.cancelled) return;
    const taken = call.write(piece) ? null : new Promise<void>((resolve) => call.once("drain", resolve));
    if (taken !== null) await Promise.race([taken, gone]);
  }
  call.end();
}

/** @param known who calls, where these roles may; throws where they may not */
const unaryBy =
  <Caller>(known: (call: grpc.ServerUnaryCall<unknown, object>, roles: readonly Role[]) => Caller) =>
  <Request = object>(roles: readonly Role[], handle: (request: Request, caller: Caller) => object | Promise<object>) =>
  async (call: grpc.ServerUnaryCall<Request, object>, callback: grpc.sendUnaryData<object>) => {
    try {
      callback(null, await handle(call.request, known(call, roles)));
    } catch (error) {
      const code = error instanceof LockstepError ? grpc.status.FAILED_PRECONDITION : grpc.status.INTERNAL;
      callback(Object.assign(new Error(sentenceOf(error)), { code, details: sentenceOf(error) }));
    }
  };

/** The code first, as in all refusals: callers tell them apart by it. */
const refusalOf = (error: unknown): string =>
  error instanceof LockstepError ? `${error.code}: ${error.message}` : sentenceOf(error);

const replyOf = ({ certificate }: Issued, { trust }: RunSecurity): CertificateReply => ({
  certificate,
  authority: trust.current.authority,
});

/** A batch of predictions as a file: u32 length of a JSON header, the header, then floats (little-endian). */
function encodeBatch({ run: _, batch: __, logits, plainLogits, maps, ...facts }: PredictionsRequest): Buffer {
  const header = Buffer.from(JSON.stringify({ ...facts, plain: plainLogits.length > 0 }));
  const length = Buffer.alloc(4);
  length.writeUInt32LE(header.length);
  return Buffer.concat([length, header, logits, plainLogits, maps]);
}
