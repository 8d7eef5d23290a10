import { LockstepError } from "../../shared/errors.ts";
import type { LedgerEntry } from "../../shared/protocol/trailer.ts";
import type { Incarnation, ViewId } from "../../shared/protocol/view.ts";
import { channelOptions, grpc, listen, memberService } from "../../shared/rpc/service.ts";
import type { Exchange } from "./exchange.ts";
import { serveState, type StateSource } from "./pull-state.ts";

export interface MemberHandlers {
  readonly run: string;
  readonly exchange: Exchange;
  readonly state: StateSource;
  /** Lineage and kept entries while the state is at `step`; null where it is not. */
  entriesAt(step: number): { readonly lineage: string; readonly entries: readonly LedgerEntry[] } | null;
}

type ExchangeCall = grpc.ServerWritableStream<{ run: string; view: ViewId | null; from: string }, Buffer>;
type PullCall = grpc.ServerWritableStream<{ run: string; step: number; from: number; to: number; snapshot: boolean }, Buffer>;

const refuse = (code: grpc.status, details: string) => Object.assign(new Error(details), { code, details });

/** The Member service of a worker: its exchange streams, its state, its unrecorded entries. */
export class MemberServer {
  private readonly server = new grpc.Server(channelOptions());
  private handlers: MemberHandlers | null = null;
  address = "";

  /** Listens at once, since the address is part of hello; calls are refused until `serve`. */
  async start(host: string, port: number): Promise<string> {
    this.server.addService(memberService, {
      exchange: (call: ExchangeCall) => this.onExchange(call),
      pullState: (call: PullCall) => void this.onPullState(call),
      pullEntries: (
        call: grpc.ServerUnaryCall<{ run: string; step: number }, object>,
        callback: grpc.sendUnaryData<object>,
      ) => this.onPullEntries(call, callback),
    });
    try {
      this.address = await listen(this.server, host, port);
    } catch (cause) {
      throw new LockstepError("LS_LISTEN", `The worker cannot listen on ${host}:${port}: ${(cause as Error).message}.`, { exitCode: 3, cause });
    }
    return this.address;
  }

  serve(handlers: MemberHandlers): void {
    this.handlers = handlers;
  }

  close(): void {
    this.server.forceShutdown();
  }

  private onExchange(call: ExchangeCall): void {
    const { handlers } = this;
    const { run, view, from } = call.request;
    if (handlers === null || run !== handlers.run || view === null) {
      return void call.destroy(refuse(grpc.status.FAILED_PRECONDITION, "LS_WRONG_RUN: this worker is not in that run"));
    }
    const incarnation = from as Incarnation;
    if (!handlers.exchange.accept(view, incarnation, call)) {
      return void call.destroy(refuse(grpc.status.PERMISSION_DENIED, "LS_NOT_A_MEMBER: not a member of that view"));
    }
    call.on("cancelled", () => handlers.exchange.dropped(view, incarnation, call));
  }

  private async onPullState(call: PullCall): Promise<void> {
    const { handlers } = this;
    if (handlers === null || call.request.run !== handlers.run) {
      return void call.destroy(refuse(grpc.status.FAILED_PRECONDITION, "LS_WRONG_RUN: this worker is not in that run"));
    }
    const { step, from, to, snapshot } = call.request;
    const served = await serveState(call, handlers.state, { step, from, to, snapshot });
    if (served) call.end();
    else call.destroy(refuse(grpc.status.ABORTED, `LS_STATE_MOVED: the state is not at step ${step} any more`));
  }

  private onPullEntries(call: grpc.ServerUnaryCall<{ run: string; step: number }, object>, callback: grpc.sendUnaryData<object>): void {
    const found = call.request.run === this.handlers?.run ? this.handlers.entriesAt(call.request.step) : null;
    if (found === null) callback(refuse(grpc.status.ABORTED, "LS_STATE_MOVED: the state is not at that step"));
    else callback(null, found);
  }
}
