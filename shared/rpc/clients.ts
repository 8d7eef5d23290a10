import type { LedgerEntry } from "../protocol/trailer.ts";
import type { Incarnation, ViewId } from "../protocol/view.ts";
import { COORDINATOR_NAME, WORKER_NAME, workerName } from "../security/names.ts";
import type { Trust } from "../security/trust.ts";
import type { Envelope } from "./convert.ts";
import {
  BootstrapClient as BootstrapConstructor,
  CoordinatorClient as CoordinatorConstructor,
  channelOptions,
  grpc,
  MemberClient as MemberConstructor,
} from "./service.ts";

/**
 * The calls of proto/lockstep.proto with their types. gRPC's generic clients know methods by name only; this is the one
 * place that says what goes in and comes out.
 */
export interface ExchangeRequest {
  readonly run: string;
  readonly view: ViewId;
  /** Incarnations of the caller and of the one that it means to call. */
  readonly from: string;
  readonly to: string;
}

export interface PullStateRequest {
  readonly run: string;
  readonly step: number;
  /** Bytes [from, to) of the state image. */
  readonly from: number;
  readonly to: number;
  readonly snapshot: boolean;
}

/** What travels with a state: its lineage and the ledger entries that the coordinator lacks. */
export interface Entries {
  readonly lineage: string;
  readonly entries: readonly LedgerEntry[];
}

export interface PredictionsRequest {
  readonly run: string;
  readonly batch: number;
  readonly from: number;
  readonly samples: number;
  readonly classes: number;
  readonly mapHeight: number;
  readonly mapWidth: number;
  readonly logits: Buffer;
  /** Empty where the run does not average over mirror images. */
  readonly plainLogits: Buffer;
  readonly maps: Buffer;
}

export interface JoinRequest {
  readonly protocol: number;
  readonly version: string;
  readonly tokenId: string;
  readonly secret: string;
  readonly incarnation: string;
  readonly name: string;
  /** SubjectPublicKeyInfo in DER, and a signature by its private key over `joinStatement`. */
  readonly publicKey: Buffer;
  readonly signature: Buffer;
}

export type RenewRequest = Pick<JoinRequest, "publicKey" | "signature">;

export interface ReachRequest {
  readonly address: string;
  readonly incarnation: string;
}

export interface ReachReply {
  /** Why the coordinator does not reach the address; empty where it does. */
  readonly failure: string;
  /** URL of the run's NATS server; empty without broadcasts. */
  readonly nats: string;
  /** How many workers have tried too, and what those found that do not reach it. */
  readonly workers: number;
  readonly failures: readonly string[];
}

/** PEM. */
export interface CertificateReply {
  readonly certificate: string;
  readonly authority: string;
}

export interface PullDataRequest {
  readonly run: string;
  /** `listing`, `train` or `test`. */
  readonly part: string;
  /** Images of that split. */
  readonly ids: readonly number[];
}

export interface ControlRequest {
  readonly action: string;
  readonly target: string;
  readonly detail: string;
}

export interface TracePartRequest {
  readonly run: string;
  readonly incarnation: Incarnation;
  /** See shared/trace/part.ts. */
  readonly json: string;
}

export interface Done {
  readonly ok: boolean;
  readonly message: string;
}

type Unary<Request, Reply> = (
  request: Request,
  options: grpc.CallOptions,
  callback: grpc.requestCallback<Reply>,
) => grpc.ClientUnaryCall;
type RawStream<Request> = (request: Request, options?: grpc.CallOptions) => grpc.ClientReadableStream<Buffer>;

export interface MemberClient {
  readonly exchange: RawStream<ExchangeRequest>;
  readonly pullState: RawStream<PullStateRequest>;
  /** Its reply is for parseEntries to check. */
  readonly pullEntries: Unary<{ readonly run: string; readonly step: number }, object>;
  close(): void;
}

export interface CoordinatorClient {
  session(): grpc.ClientDuplexStream<Envelope, Envelope>;
  readonly pullCheckpoint: RawStream<{ readonly run: string; readonly step: number }>;
  readonly pullData: RawStream<PullDataRequest>;
  readonly pushPredictions: Unary<PredictionsRequest, Done>;
  readonly getClock: Unary<object, { readonly millis: number }>;
  readonly pushTrace: Unary<TracePartRequest, Done>;
  readonly getStatus: Unary<object, { readonly json: string }>;
  readonly control: Unary<ControlRequest, Done>;
  readonly renew: Unary<RenewRequest, CertificateReply>;
  readonly reach: Unary<ReachRequest, ReachReply>;
  close(): void;
}

export interface BootstrapClient {
  readonly join: Unary<JoinRequest, CertificateReply>;
  close(): void;
}

export interface ClientOptions {
  /** Flow-control window for what comes back, in bytes. */
  readonly window?: number;
  /** A connection that no other client shares. */
  readonly ownConnection?: boolean;
  /** By which connections are secured; null: they are not. */
  readonly trust?: Trust | null;
  /** A worker that must be at the other end; any worker of the run where none is named. */
  readonly incarnation?: string;
}

function channelOf(name: string, address: string, { window, ownConnection, trust }: ClientOptions) {
  const { credentials, options } = trust?.channel(name, address) ?? {
    credentials: grpc.credentials.createInsecure(),
    options: {},
  };
  const own = ownConnection === true ? { "grpc.use_local_subchannel_pool": 1 } : {};
  return [credentials, { ...channelOptions(window), ...own, ...options }] as const;
}

/** A client of a worker's Member service at host:port. */
export const memberClient = (address: string, options: ClientOptions = {}): MemberClient =>
  new MemberConstructor(
    address,
    ...channelOf(options.incarnation === undefined ? WORKER_NAME : workerName(options.incarnation), address, options),
  ) as unknown as MemberClient;

/** A client of the Coordinator service at host:port. */
export const coordinatorClient = (address: string, options: ClientOptions = {}): CoordinatorClient =>
  new CoordinatorConstructor(address, ...channelOf(COORDINATOR_NAME, address, options)) as unknown as CoordinatorClient;

/** A client of the Bootstrap service at host:port. @param trust knows the authority and has no certificate */
export const bootstrapClient = (address: string, trust: Trust): BootstrapClient =>
  new BootstrapConstructor(address, ...channelOf(COORDINATOR_NAME, address, { trust })) as unknown as BootstrapClient;

/** Promise of a unary call, cancelled by the signal. Rejects with gRPC's ServiceError. */
export function unary<Reply>(
  call: (callback: grpc.requestCallback<Reply>) => grpc.ClientUnaryCall,
  signal?: AbortSignal,
): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const abort = () => running.cancel();
    const running = call((error, reply) => {
      signal?.removeEventListener("abort", abort);
      if (error !== null || reply === undefined) reject(error ?? new Error("an empty reply"));
      else resolve(reply);
    });
    if (signal?.aborted) running.cancel();
    signal?.addEventListener("abort", abort, { once: true });
  });
}
