import { LockstepError } from "../../shared/errors.ts";
import { hostPort } from "../../shared/process/addresses.ts";
import type { Incarnation, ViewId } from "../../shared/protocol/view.ts";
import type { Entries, ExchangeRequest, PullStateRequest } from "../../shared/rpc/clients.ts";
import { tellingRefusals } from "../../shared/rpc/refused-calls.ts";
import { type Binding, channelOptions, grpc, listen, memberService, refuseCall } from "../../shared/rpc/service.ts";
import { type Authenticated, requireRole } from "../../shared/security/caller.ts";
import type { Gate } from "../../shared/security/gate.ts";
import type { Peer, Role } from "../../shared/security/names.ts";
import type { Trust } from "../../shared/security/trust.ts";
import type { Exchange } from "./exchange.ts";
import { WRONG_INCARNATION } from "./inbound.ts";
import { type StateSource, serveState } from "./serve-state.ts";

export interface MemberHandlers {
  readonly run: string;
  readonly exchange: Exchange;
  readonly state: StateSource;
  /** Lineage and kept entries while the state is at `step`; null where it is not. */
  entriesAt(step: number): Entries | null;
}

/** How a worker's server is secured. */
export interface MemberSecurity {
  readonly trust: Trust;
  gate(members: grpc.Server): Gate;
}

type ExchangeCall = grpc.ServerWritableStream<Omit<ExchangeRequest, "view"> & { readonly view: ViewId | null }, Buffer>;
type PullCall = grpc.ServerWritableStream<PullStateRequest, Buffer>;
type EntriesCall = grpc.ServerUnaryCall<{ readonly run: string; readonly step: number }, Entries>;

/** Pulls that are served at a time; each reads state beside the training that goes on. */
const MOST_PULLS = 16;

/** Why a call is refused. */
type Refusal = readonly [code: grpc.status, details: string];

const NOT_READY: Refusal = [grpc.status.UNAVAILABLE, "LS_NOT_READY: this worker is still loading"];
const WRONG_RUN: Refusal = [WRONG_INCARNATION, "LS_WRONG_RUN: this worker is not in that run"];
const NOT_ALLOWED: Refusal = [grpc.status.FAILED_PRECONDITION, "LS_NOT_ALLOWED: the caller's certificate is another's"];
const NO_VIEW: Refusal = [grpc.status.INVALID_ARGUMENT, "LS_MALFORMED: no view is named"];
const UNKNOWN_VIEW: Refusal = [grpc.status.NOT_FOUND, "LS_UNKNOWN_VIEW: this worker has not heard of that view yet"];
const NOT_A_MEMBER: Refusal = [grpc.status.FAILED_PRECONDITION, "LS_NOT_A_MEMBER: the caller is not in that view"];
const TOO_MANY: Refusal = [grpc.status.RESOURCE_EXHAUSTED, "LS_TOO_MANY_CALLS: too many such calls are open"];
const NO_BYTES: Refusal = [grpc.status.OUT_OF_RANGE, "LS_MALFORMED: the state has no such bytes"];
const MOVED: Refusal = [grpc.status.ABORTED, "LS_STATE_MOVED: the state is not at that step"];

/** The Member service of a worker: its exchange streams, its state, its unrecorded entries. */
export class MemberServer {
  private readonly server: grpc.Server;
  private handlers: MemberHandlers | null = null;
  private trust: Trust | null = null;
  private gate: Gate | null = null;
  private pulls = 0;
  address = "";

  /** @param onRefused hears of the code of each call that is refused; "" where it has none */
  constructor(onRefused: (code: string) => void = () => {}) {
    this.server = new grpc.Server({ ...channelOptions(), interceptors: [tellingRefusals(onRefused)] });
  }

  /**
   * Listens at once, since the address is part of hello; calls are refused until `serve`.
   * @param security null: whoever reaches the port may call
   * @throws LockstepError LS_LISTEN
   */
  async start(binding: Binding, security: MemberSecurity | null = null): Promise<string> {
    this.trust = security?.trust ?? null;
    this.gate = security?.gate(this.server) ?? null;
    this.server.addService(memberService, {
      exchange: (call: ExchangeCall) => this.onExchange(call),
      pullState: (call: PullCall) => void this.onPullState(call),
      pullEntries: (call: EntriesCall, callback: grpc.sendUnaryData<Entries>) => this.onPullEntries(call, callback),
    });
    try {
      this.address = await listen(this.server, binding, this.gate);
    } catch (cause) {
      throw new LockstepError(
        "LS_LISTEN",
        `The worker cannot listen on ${hostPort(binding.host, binding.ports.from)}: ${(cause as Error).message}.`,
        {
          hint: "Choose another address or port (--listen, --ports).",
          exitCode: 3,
          cause,
        },
      );
    }
    return this.address;
  }

  serve(handlers: MemberHandlers): void {
    this.handlers = handlers;
  }

  /** Breaks all streams at once. */
  close(): void {
    this.gate?.close();
    this.server.forceShutdown();
  }

  private onExchange(call: ExchangeCall): void {
    const { handlers } = this;
    const { run, view, from, to } = call.request;
    const refuse = (refusal: Refusal) => refuseCall(call, ...refusal);
    if (handlers === null) return refuse(NOT_READY);
    if (run !== handlers.run) return refuse(WRONG_RUN);
    const caller = this.callerOf(call, "worker");
    if (caller === "nobody" || (caller !== null && caller.incarnation !== null && caller.incarnation !== from))
      return refuse(NOT_ALLOWED);
    const { exchange } = handlers;
    if (to !== exchange.self) return refuse([WRONG_INCARNATION, `LS_WRONG_INCARNATION: ${to} does not listen here`]);
    if (view === null) return refuse(NO_VIEW);
    const peer = from as Incarnation;
    call.on("cancelled", () => exchange.dropped(view, peer, call));
    const acceptance = exchange.accept(view, peer, call, () => refuse(UNKNOWN_VIEW));
    if (acceptance === "notAMember") refuse(NOT_A_MEMBER);
    if (acceptance === "noRoom") refuse(TOO_MANY);
  }

  private async onPullState(call: PullCall): Promise<void> {
    const { handlers } = this;
    const refuse = (refusal: Refusal) => refuseCall(call, ...refusal);
    if (handlers === null) return refuse(NOT_READY);
    if (call.request.run !== handlers.run) return refuse(WRONG_RUN);
    if (this.callerOf(call, "worker", "coordinator") === "nobody") return refuse(NOT_ALLOWED);
    if (this.pulls >= MOST_PULLS) return refuse(TOO_MANY);
    this.pulls += 1;
    const served = await serveState(call, handlers.state, call.request).finally(() => {
      this.pulls -= 1;
    });
    if (served === "served") call.end();
    else if (served === "moved") refuse(MOVED);
    else if (served === "noRange") refuse(NO_BYTES);
  }

  private onPullEntries(call: EntriesCall, callback: grpc.sendUnaryData<Entries>): void {
    const { handlers } = this;
    const allowed = this.callerOf(call, "worker") !== "nobody";
    const found = allowed && call.request.run === handlers?.run ? handlers.entriesAt(call.request.step) : null;
    if (found !== null) return callback(null, found);
    const [code, details] = allowed ? MOVED : NOT_ALLOWED;
    callback(Object.assign(new Error(details), { code, details }));
  }

  /** null on a port without security, on which everybody may. */
  private callerOf(call: Authenticated, ...roles: readonly Role[]): Peer | null | "nobody" {
    try {
      return requireRole(call, this.trust, ...roles);
    } catch {
      return "nobody";
    }
  }
}
