import { connect as connectPlain, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { connect as connectTls } from "node:tls";
import * as grpc from "@grpc/grpc-js";
import { Authority } from "../../coordinator/security/authority.ts";
import { splitAddress } from "../../shared/process/addresses.ts";
import { bootstrapClient, coordinatorClient, memberClient, unary } from "../../shared/rpc/clients.ts";
import type { JoinToken } from "../../shared/security/join-link.ts";
import { Trust } from "../../shared/security/trust.ts";
import { fetchAuthority, joinOnce, newIdentity } from "../../worker/security/obtain.ts";

/** What an attacker who can reach the ports of a run tries. Each attempt says what came of it. */
export interface Target {
  readonly run: string;
  /** host:port */
  readonly coordinator: string;
  readonly members: readonly string[];
  /** A token that let somebody in once and does not any more, by its time, its uses, or a person. */
  readonly tokens: { readonly expired: JoinToken; readonly used: JoinToken; readonly revoked: JoinToken };
}

export interface Attack {
  readonly name: string;
  /** What must have come of it. */
  readonly expected: RegExp;
  attempt(target: Target): Promise<string>;
  /** Takes its time, which others use. */
  readonly lasts?: boolean;
}

const SELF = "ffffffffffffffff";
const PATIENCE = 4000;
/** A connection that was never made, or was broken, before a call got through. */
const BROKEN = /UNAVAILABLE|CANCELLED|DEADLINE_EXCEEDED/;

const verdict = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => "taken",
    (error: { code?: unknown; details?: string; message: string }) => {
      const words = error.details ?? error.message;
      const code = typeof error.code === "number" ? grpc.status[error.code] : String(error.code ?? "");
      return `${code} ${/LS_[A-Z_]+/.exec(words)?.[0] ?? ""}`.trim();
    },
  );

/** Streams end with a status as well. */
const firstOf = (stream: grpc.ClientReadableStream<unknown>): Promise<unknown> =>
  new Promise((resolve, reject) => {
    stream.on("data", resolve);
    stream.on("error", reject);
    setTimeout(() => reject(new Error("silence")), PATIENCE).unref();
  });

async function withClient<C extends { close(): void }, T>(client: C, use: (client: C) => Promise<T>): Promise<T> {
  return use(client).finally(() => client.close());
}

const statusOf = (address: string, trust: Trust | null) =>
  withClient(coordinatorClient(address, { trust, ownConnection: true }), (client) =>
    verdict(unary((done) => client.getStatus({}, { deadline: Date.now() + PATIENCE }, done))),
  );

const stateOf = (run: string, address: string, trust: Trust | null) =>
  withClient(memberClient(address, { trust, ownConnection: true }), (client) =>
    verdict(firstOf(client.pullState({ run, step: 0, from: 0, to: 8, snapshot: false }))),
  );

/** Knows the run's authority, as anybody can, and has a certificate of that kind. */
async function forged(target: Target, lifetime = 3_600_000): Promise<Trust> {
  const { authority } = await fetchAuthority(target.coordinator, target.tokens.used.authority);
  const own = (await Authority.create(target.run)).authority;
  const { certificate, key } = await own.equip({ role: "worker", name: SELF }, lifetime);
  return new Trust({ authority, certificate, key });
}

const stranger = async (target: Target): Promise<Trust> => {
  const { authority } = await fetchAuthority(target.coordinator, target.tokens.used.authority);
  return new Trust({ authority, certificate: "", key: "" });
};

const joinBy = (target: Target, token: JoinToken) =>
  verdict(joinOnce(target.coordinator, token, { identity: newIdentity(), name: "intruder" }));

/** What the other side did with so many bytes: nothing is ever answered in plain text. */
function bytesTo(address: string, bytes: Buffer): Promise<string> {
  const { host, port } = splitAddress(address)!;
  return new Promise((resolve) => {
    let heard = 0;
    const socket = connectPlain({ host, port }, () => socket.write(bytes));
    socket.on("data", (data) => {
      heard += data.length;
    });
    socket.on("error", () => {});
    socket.on("close", () => resolve(`closed after ${heard < 8 ? "no answer" : `${heard} bytes`}`));
    setTimeout(() => socket.destroy(), 8000).unref();
  });
}

/** Opens connections that say nothing, and tells how many are still open after the time for a handshake. */
async function halfOpen(address: string, count: number): Promise<string> {
  const { host, port } = splitAddress(address)!;
  let open = 0;
  const sockets: Socket[] = [];
  for (let n = 0; n < count; n++) {
    const socket = connectPlain({ host, port }, () => {
      open += 1;
    });
    socket.on("error", () => {});
    socket.on("close", () => {
      open -= 1;
    });
    sockets.push(socket);
  }
  await sleep(7000);
  for (const socket of sockets) socket.destroy();
  return open <= 0 ? "all closed" : `${open} open`;
}

/** A slow client: a TLS connection without a certificate that sends a byte of HTTP/2 now and then. */
function slow(address: string, authority: string): Promise<string> {
  const { host, port } = splitAddress(address)!;
  return new Promise((resolve) => {
    const started = performance.now();
    const socket = connectTls({
      host,
      port,
      ca: authority,
      ALPNProtocols: ["h2"],
      checkServerIdentity: () => undefined,
    });
    const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    let at = 0;
    const timer = setInterval(() => socket.write(preface.subarray(at, ++at % preface.length)), 500);
    socket.on("error", () => {});
    socket.on("close", () => {
      clearInterval(timer);
      resolve(performance.now() - started < 20_000 ? "closed" : "held open");
    });
    setTimeout(() => socket.destroy(), 21_000).unref();
  });
}

const member = ({ members, coordinator }: Target): string => members[0] ?? coordinator;

export const ATTACKS: readonly Attack[] = [
  {
    name: "plain text gRPC to the coordinator",
    expected: BROKEN,
    attempt: ({ coordinator }) => statusOf(coordinator, null),
  },
  {
    name: "plain text gRPC to a member",
    expected: BROKEN,
    attempt: (target) => stateOf(target.run, member(target), null),
  },
  {
    name: "an HTTP request to the coordinator's port",
    expected: /^closed after no answer$/,
    attempt: ({ coordinator }) => bytesTo(coordinator, Buffer.from("GET / HTTP/1.1\r\nhost: x\r\n\r\n")),
  },
  {
    name: "noise to a member's port",
    expected: /^closed after no answer$/,
    attempt: (target) => bytesTo(member(target), Buffer.alloc(100_000, 0xa5)),
  },
  {
    name: "status without a certificate",
    expected: /^UNIMPLEMENTED|UNAVAILABLE/,
    attempt: async (target) => statusOf(target.coordinator, await stranger(target)),
  },
  {
    name: "a member's state without a certificate",
    expected: BROKEN,
    attempt: async (target) => stateOf(target.run, member(target), await stranger(target)),
  },
  {
    name: "status with a certificate of another run",
    expected: BROKEN,
    attempt: async (target) => statusOf(target.coordinator, await forged(target)),
  },
  {
    name: "a member's state with a certificate of another run",
    expected: BROKEN,
    attempt: async (target) => stateOf(target.run, member(target), await forged(target)),
  },
  {
    name: "a token whose secret is guessed",
    expected: /LS_TOKEN_UNKNOWN|LS_TOO_MANY_JOINS/,
    attempt: (target) => joinBy(target, { ...target.tokens.used, secret: "0".repeat(32) }),
  },
  { name: "an expired token", expected: /LS_TOKEN_EXPIRED/, attempt: (t) => joinBy(t, t.tokens.expired) },
  { name: "a token that is used up, again", expected: /LS_TOKEN_USED/, attempt: (t) => joinBy(t, t.tokens.used) },
  { name: "a revoked token", expected: /LS_TOKEN_REVOKED/, attempt: (t) => joinBy(t, t.tokens.revoked) },
  {
    name: "the token of another run",
    expected: /LS_WRONG_AUTHORITY/,
    attempt: (target) => joinBy(target, { ...target.tokens.used, authority: "ab".repeat(32) }),
  },
  {
    name: "a request to join of a megabyte",
    expected: /RESOURCE_EXHAUSTED/,
    attempt: async (target) => {
      const about = { protocol: 1, version: "x".repeat(1 << 20), tokenId: "", secret: "", incarnation: "", name: "" };
      const nothing = { publicKey: Buffer.alloc(0), signature: Buffer.alloc(0) };
      return withClient(bootstrapClient(target.coordinator, await stranger(target)), (client) =>
        verdict(unary((done) => client.join({ ...about, ...nothing }, { deadline: Date.now() + PATIENCE }, done))),
      );
    },
  },
  {
    name: "connections to a member that say nothing",
    lasts: true,
    expected: /^all closed$/,
    attempt: (target) => halfOpen(member(target), 300),
  },
  {
    name: "a client that sends a byte now and then",
    lasts: true,
    expected: /^closed$/,
    attempt: async (target) => slow(target.coordinator, (await stranger(target)).current.authority),
  },
  {
    name: "a flood of requests to join",
    expected: /^refused: (LS_TOKEN_UNKNOWN|LS_TOO_MANY_JOINS|LS_UNREACHABLE|,)+$/,
    attempt: async (target) => {
      const seen = new Set<string>();
      const guess = { ...target.tokens.used, secret: "1".repeat(32) };
      const wave = () => Array.from({ length: 20 }, () => joinBy(target, guess).then((code) => seen.add(code)));
      for (let n = 0; n < 10; n++) await Promise.all(wave());
      const codes = [...seen].map((code) => /LS_[A-Z_]+/.exec(code)?.[0] ?? code);
      return `refused: ${codes.join()}`;
    },
  },
];
