import { connect as connectPlain, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { connect as connectTls } from "node:tls";
import { connect as connectNats } from "nats";
import { Authority } from "../../coordinator/security/authority.ts";
import { splitAddress } from "../../shared/process/addresses.ts";
import { bootstrapClient, coordinatorClient, memberClient, unary } from "../../shared/rpc/clients.ts";
import { channelOptions } from "../../shared/rpc/service.ts";
import type { JoinToken } from "../../shared/security/join-link.ts";
import { COORDINATOR_NAME } from "../../shared/security/names.ts";
import { Trust } from "../../shared/security/trust.ts";
import { fetchAuthority, joinOnce, newIdentity } from "../../worker/security/obtain.ts";
import {
  type Attack,
  bytesToCall,
  firstOf,
  memberOf,
  PATIENCE,
  soon,
  stranger,
  type Target,
  verdict,
  withClient,
} from "./attempt.ts";
import { INSIDERS } from "./insider-attacks.ts";

/** What anybody who reaches the ports of a run can try. Each attempt says what came of it. */

const SELF = "ffffffffffffffff";
/** A connection that was never made, or was broken, before a call got through. */
const BROKEN = /^(UNAVAILABLE|CANCELLED|DEADLINE_EXCEEDED)$/;

const statusOf = (address: string, trust: Trust | null) =>
  withClient(coordinatorClient(address, { trust, ownConnection: true }), (client) =>
    verdict(unary((done) => client.getStatus({}, soon(), done))),
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

/** A TLS handshake in an older version. */
const olderTls = (address: string): Promise<string> => {
  const { host, port } = splitAddress(address)!;
  const asked = new Promise((resolve, reject) => {
    const old = {
      minVersion: "TLSv1.2",
      maxVersion: "TLSv1.2",
      ALPNProtocols: ["h2"],
      rejectUnauthorized: false,
    } as const;
    const socket = connectTls({ host, port, ...old }, () => resolve(socket.destroy()));
    socket.on("error", reject);
  });
  return verdict(asked);
};

/** A subscription to all that a run broadcasts. */
async function overhear(target: Target, user: { readonly user?: string; readonly pass?: string }): Promise<string> {
  if (target.nats === null) return "no broadcasts";
  const { host, port } = splitAddress(target.nats.replace(/^\w+:\/\//, ""))!;
  const { authority } = (await stranger(target)).current;
  const options = { servers: `${host}:${port}`, tls: { ca: authority }, ...user, reconnect: false, timeout: PATIENCE };
  return verdict(connectNats(options).then((connection) => connection.close()));
}

export const STRANGERS: readonly Attack[] = [
  {
    name: "plain text gRPC to the coordinator",
    expected: BROKEN,
    attempt: ({ coordinator }) => statusOf(coordinator, null),
  },
  {
    name: "plain text gRPC to a member",
    expected: BROKEN,
    attempt: (target) => stateOf(target.run, memberOf(target), null),
  },
  {
    name: "an HTTP request to the coordinator's port",
    expected: /^closed after no answer$/,
    attempt: ({ coordinator }) => bytesTo(coordinator, Buffer.from("GET / HTTP/1.1\r\nhost: x\r\n\r\n")),
  },
  {
    name: "noise to a member's port",
    expected: /^closed after no answer$/,
    attempt: (target) => bytesTo(memberOf(target), Buffer.alloc(100_000, 0xa5)),
  },
  {
    name: "status without a certificate",
    expected: /^UNIMPLEMENTED|UNAVAILABLE/,
    attempt: async (target) => statusOf(target.coordinator, await stranger(target)),
  },
  {
    name: "a member's state without a certificate",
    expected: BROKEN,
    attempt: async (target) => stateOf(target.run, memberOf(target), await stranger(target)),
  },
  {
    name: "status with a certificate of another run",
    expected: BROKEN,
    attempt: async (target) => statusOf(target.coordinator, await forged(target)),
  },
  {
    name: "a member's state with a certificate of another run",
    expected: BROKEN,
    attempt: async (target) => stateOf(target.run, memberOf(target), await forged(target)),
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
        verdict(unary((done) => client.join({ ...about, ...nothing }, soon(), done))),
      );
    },
  },
  {
    name: "a request to join that is no protobuf",
    expected: /^INTERNAL$/,
    attempt: async (target) => {
      const { credentials, options } = (await stranger(target)).channel(COORDINATOR_NAME, target.coordinator);
      const channel = [credentials, { ...channelOptions(), ...options }] as const;
      const path = "/lockstep.v1.Bootstrap/Join";
      return verdict(bytesToCall(target.coordinator, channel, path, Buffer.alloc(500, 0xff)));
    },
  },
  {
    name: "a request to join in another version of the protocol",
    expected: /LS_PROTOCOL/,
    attempt: async (target) => {
      const about = { protocol: 99, version: "99", tokenId: "", secret: "", incarnation: SELF, name: "" };
      const nothing = { publicKey: Buffer.alloc(0), signature: Buffer.alloc(0) };
      return withClient(bootstrapClient(target.coordinator, await stranger(target)), (client) =>
        verdict(unary((done) => client.join({ ...about, ...nothing }, soon(), done))),
      );
    },
  },
  {
    name: "a handshake in TLS 1.2",
    expected: /PROTOCOL_VERSION/,
    attempt: ({ coordinator }) => olderTls(coordinator),
  },
  {
    name: "broadcasts without a password",
    expected: /^AUTHORIZATION_VIOLATION$|^no broadcasts$/,
    attempt: (target) => overhear(target, {}),
  },
  {
    name: "broadcasts with a guessed password",
    expected: /^AUTHORIZATION_VIOLATION$|^no broadcasts$/,
    attempt: (target) => overhear(target, { user: "watch", pass: "watch" }),
  },
  {
    name: "connections to a member that say nothing",
    lasts: true,
    expected: /^all closed$/,
    attempt: (target) => halfOpen(memberOf(target), 300),
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

/**
 * Who has a certificate of the run and means ill, and who has none. In this order: an address that has flooded a port is not
 * listened to for a while, and each attack is to meet its own guard.
 */
export const ROUNDS: readonly (readonly Attack[])[] = [INSIDERS, STRANGERS];

/** @param quick without those that take their time */
export const attackCount = (quick: boolean): number =>
  ROUNDS.flat().filter(({ lasts }) => !quick || lasts !== true).length;
