import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { LockstepError } from "../errors.ts";
import { bindFirst, hostPort, type Ports } from "../process/addresses.ts";
import type { Gate } from "../security/gate.ts";
import { SpentBuffers } from "./spent-buffers.ts";

/** The services of proto/lockstep.proto, loaded once, and the channel settings that all of Lockstep uses. */
const places = ["../../proto/lockstep.proto", "../../../proto/lockstep.proto"].map((place) =>
  fileURLToPath(new URL(place, import.meta.url)),
);

function protoFile(): string {
  const found = places.find((path) => existsSync(path));
  if (found !== undefined) return found;
  throw new LockstepError("LS_PROTO_MISSING", `${places[0]} is missing.`, {
    hint: "The folder proto/ belongs beside the built code; take the whole checkout.",
    exitCode: 3,
  });
}

const loaded = grpc.loadPackageDefinition(
  loadSync(protoFile(), { longs: Number, defaults: true, arrays: true, objects: true, oneofs: true }),
) as unknown as {
  readonly lockstep: {
    readonly v1: {
      readonly Coordinator: grpc.ServiceClientConstructor;
      readonly Member: grpc.ServiceClientConstructor;
      readonly Bootstrap: grpc.ServiceClientConstructor;
    };
  };
};
const { Bootstrap, Coordinator, Member } = loaded.lockstep.v1;

const spent = new SpentBuffers();
const raw = <T extends Buffer>(buffer: T): T => {
  spent.add(buffer.length);
  return buffer;
};

/** A method of a proto service whose answers are raw buffers: protobuf would copy every chunk. */
const rawAnswers = (methods: grpc.ServiceDefinition, names: readonly string[]): grpc.ServiceDefinition =>
  Object.fromEntries(
    Object.entries(methods).map(([name, method]) =>
      names.includes(name) ? [name, { ...method, responseSerialize: raw, responseDeserialize: raw }] : [name, method],
    ),
  ) as grpc.ServiceDefinition;

export const coordinatorService = rawAnswers(Coordinator.service, ["PullCheckpoint", "PullData"]);
export const memberService = rawAnswers(Member.service, ["Exchange", "PullState"]);
export const bootstrapService = Bootstrap.service;
export const BootstrapClient = Bootstrap;
export const CoordinatorClient = grpc.makeGenericClientConstructor(coordinatorService, "Coordinator");
export const MemberClient = grpc.makeGenericClientConstructor(memberService, "Member");

/** Largest control message, in bytes: a standing with its bounded ledger entries. Chunks are far smaller. */
export const MAX_MESSAGE = 64 << 20;

/**
 * Options of every channel and server: no proxy between cluster members, short redials, keepalive, bounded messages.
 * @param window flow-control window of the receiving side, in bytes
 */
export const channelOptions = (window = 4 << 20): grpc.ChannelOptions =>
  ({
    "grpc.enable_http_proxy": 0,
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.min_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 1000,
    "grpc.keepalive_time_ms": 10_000,
    "grpc.keepalive_timeout_ms": 5_000,
    "grpc.keepalive_permit_without_calls": 1,
    "grpc.max_receive_message_length": MAX_MESSAGE,
    "grpc.max_send_message_length": MAX_MESSAGE,
    "grpc-node.flow_control_window": window,
  }) as grpc.ChannelOptions;

/** Where a server listens, and what others are told to dial. */
export interface Binding {
  readonly host: string;
  readonly ports: Ports;
  /** The host of the address that others dial. */
  readonly advertise: string;
}

/** On one address, on this port (0: any free one). */
export const bindingOf = (host: string, port = 0): Binding => ({
  host,
  ports: { from: port, to: port },
  advertise: host,
});

/**
 * Opens a server and returns the address that others dial.
 * @param gate listens in its place, where connections must show who they are
 */
export async function listen(server: grpc.Server, binding: Binding, gate: Gate | null = null): Promise<string> {
  const { host, ports, advertise } = binding;
  const bind = (port: number) => gate?.listen(host, port) ?? bindPlain(server, host, port);
  return hostPort(advertise, await bindFirst(ports, bind));
}

const bindPlain = (server: grpc.Server, host: string, port: number): Promise<number> =>
  new Promise((resolve, reject) => {
    server.bindAsync(hostPort(host, port), grpc.ServerCredentials.createInsecure(), (error, actual) =>
      error === null ? resolve(actual) : reject(error),
    );
  });

/**
 * Ends a server's stream with an error status. (Destroying the call would send nothing: the caller would wait for ever.)
 * `details` begins with the error's code, for example "LS_STATE_MOVED: …".
 */
export function refuseCall(
  call: { emit(event: "error", error: Error): boolean },
  code: grpc.status,
  details: string,
): void {
  call.emit("error", Object.assign(new Error(details), { code, details }));
}

export { grpc };
