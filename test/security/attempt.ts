import * as grpc from "@grpc/grpc-js";
import type { JoinToken } from "../../shared/security/join-link.ts";
import { Trust } from "../../shared/security/trust.ts";
import { fetchAuthority } from "../../worker/security/obtain.ts";

/** What an attacker who can reach the ports of a run knows of it. */
export interface Target {
  readonly run: string;
  /** host:port */
  readonly coordinator: string;
  readonly members: readonly string[];
  /** tls://host:port; null without broadcasts. */
  readonly nats: string | null;
  readonly tokens: {
    /** They let somebody in once and do not any more, by their time, their uses, or a person. */
    readonly expired: JoinToken;
    readonly used: JoinToken;
    readonly revoked: JoinToken;
    /** It lets one worker in, who then does what no worker may. */
    readonly insider: JoinToken;
  };
}

export interface Attack {
  readonly name: string;
  /** What must have come of it. */
  readonly expected: RegExp;
  attempt(target: Target): Promise<string>;
  /** Takes its time, which others use. */
  readonly lasts?: boolean;
}

/** What came of an attempt. */
export interface Outcome {
  readonly name: string;
  readonly outcome: string;
  /** It is what must have come of it. */
  readonly held: boolean;
}

export const PATIENCE = 4000;

/** gRPC's status and Lockstep's code, as far as there are any; "taken" where nothing was refused. */
export const verdict = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => "taken",
    (error: { code?: unknown; details?: string; message: string }) => {
      const words = error.details ?? error.message;
      const code = typeof error.code === "number" ? grpc.status[error.code] : String(error.code ?? "");
      const coded = /LS_[A-Z_]+/.exec(words)?.[0] ?? "";
      return code === coded ? code : `${code} ${coded}`.trim();
    },
  );

/** Streams end with a status as well. */
export const firstOf = (stream: grpc.ClientReadableStream<unknown>): Promise<unknown> =>
  new Promise((resolve, reject) => {
    stream.on("data", resolve);
    stream.on("error", reject);
    setTimeout(() => reject(new Error("silence")), PATIENCE).unref();
  });

export async function withClient<C extends { close(): void }, T>(
  client: C,
  use: (client: C) => Promise<T>,
): Promise<T> {
  return use(client).finally(() => client.close());
}

export const soon = () => ({ deadline: Date.now() + PATIENCE });

/** A method's path, and whoever reaches the port may send it any bytes. @throws what gRPC makes of the answer */
export function bytesToCall(
  address: string,
  [credentials, options]: readonly [grpc.ChannelCredentials, grpc.ChannelOptions],
  path: string,
  bytes: Buffer,
): Promise<unknown> {
  const client = new grpc.Client(address, credentials, options);
  const same = (buffer: Buffer) => buffer;
  return withClient(
    client,
    () =>
      new Promise((resolve, reject) => {
        client.makeUnaryRequest(path, same, same, bytes, new grpc.Metadata(), soon(), (error, reply) =>
          error === null ? resolve(reply) : reject(error),
        );
      }),
  );
}

/** Knows the run's authority, as anybody can, and has no certificate. */
export async function stranger(target: Target): Promise<Trust> {
  const { authority } = await fetchAuthority(target.coordinator, target.tokens.used.authority);
  return new Trust({ authority, certificate: "", key: "" });
}

export const memberOf = ({ members, coordinator }: Target): string => members[0] ?? coordinator;
