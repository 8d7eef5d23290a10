import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { LockstepError } from "../errors.ts";

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
    };
  };
};
const { Coordinator, Member } = loaded.lockstep.v1;

const raw = <T extends Buffer>(buffer: T): T => buffer;

/** A method of a proto service whose answers are raw buffers: protobuf would copy every chunk. */
const rawAnswers = (methods: grpc.ServiceDefinition, names: readonly string[]): grpc.ServiceDefinition =>
  Object.fromEntries(
    Object.entries(methods).map(([name, method]) =>
      names.includes(name) ? [name, { ...method, responseSerialize: raw, responseDeserialize: raw }] : [name, method],
    ),
  ) as grpc.ServiceDefinition;

export const coordinatorService = rawAnswers(Coordinator.service, ["PullCheckpoint"]);
export const memberService = rawAnswers(Member.service, ["Exchange", "PullState"]);
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

/** Opens a server on host:port (0: any port) and returns the address that others dial. */
export async function listen(server: grpc.Server, host: string, port: number): Promise<string> {
  const bound = await new Promise<number>((resolve, reject) => {
    server.bindAsync(`${host}:${port}`, grpc.ServerCredentials.createInsecure(), (error, actual) =>
      error === null ? resolve(actual) : reject(error),
    );
  });
  return `${host}:${bound}`;
}

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
