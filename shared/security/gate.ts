import type { AddressInfo, Socket } from "node:net";
import { createServer, type Server, type TLSSocket } from "node:tls";
import * as grpc from "@grpc/grpc-js";
import { admit } from "./admission.ts";
import type { Peer } from "./names.ts";
import { RateBound } from "./rate-bound.ts";
import { contextOptions, type Trust } from "./trust.ts";

/** How much a gate lets happen at a time. Every member of a run needs a few connections to every other. */
const MOST_CONNECTIONS = 8192;
/** Connections that have not said who they are. */
const MOST_STRANGERS = 256;
const MOST_STRANGERS_OF_ONE = 32;
const HANDSHAKE_MILLIS = 5000;
/** Asking for a certificate takes one call. */
const STRANGER_MILLIS = 10_000;
/** Refused connections and strangers of one address; who comes faster is not listened to. Joining takes two. */
const RATE = { burst: 128, perSecond: 8 };

/** A connection that was not let in. */
export interface Refusal {
  readonly code: `LS_${string}`;
  readonly why: string;
  /** Address of whoever it was. */
  readonly from: string;
}

export interface GateOptions {
  readonly trust: Trust;
  /** Serves whoever has a certificate of the run. */
  readonly members: grpc.Server;
  /** Serves whoever has none; null: nobody does. */
  readonly strangers: grpc.Server | null;
  isRevoked(peer: Peer): boolean;
  onRefused(refusal: Refusal): void;
}

/**
 * The TLS side of a port. The handshake decides which gRPC server a connection reaches: calls are never asked for
 * certificates, so that none can forget to ask. Mutual TLS in version 1.3, no plain text, bounded numbers and times.
 */
export class Gate {
  readonly #options: GateOptions;
  readonly #server: Server;
  readonly #members: grpc.ConnectionInjector;
  readonly #strangers: grpc.ConnectionInjector | null;
  /** Connections before their handshake, and those of strangers, with their addresses. */
  readonly #unknown = new Map<Socket, string>();
  readonly #known = new Map<TLSSocket, Peer>();
  readonly #rate = new RateBound(RATE);

  constructor(options: GateOptions) {
    const { trust, members, strangers } = options;
    this.#options = options;
    const plain = grpc.ServerCredentials.createInsecure();
    this.#members = members.createConnectionInjector(plain);
    this.#strangers = strangers?.createConnectionInjector(plain) ?? null;
    this.#server = createServer({
      ...contextOptions(trust.current),
      requestCert: true,
      // Not left to the library alone: who has no certificate may still ask for one.
      rejectUnauthorized: false,
      ALPNProtocols: ["h2"],
      handshakeTimeout: HANDSHAKE_MILLIS,
    });
    this.#server.maxConnections = MOST_CONNECTIONS;
    this.#server.on("connection", (socket: Socket) => this.#onConnection(socket));
    this.#server.on("secureConnection", (socket: TLSSocket) => this.#onSecure(socket));
    this.#server.on("tlsClientError", (error: Error, socket: TLSSocket) => this.#onHandshakeError(error, socket));
    trust.onChange((credentials) => this.#server.setSecureContext(contextOptions(credentials)));
  }

  /** @throws the system's error; resolves with the port */
  listen(host: string, port: number): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen({ host, port }, () => {
        this.#server.off("error", reject);
        this.#server.on("error", () => {}); // Of single connections; the server goes on.
        resolve((this.#server.address() as AddressInfo).port);
      });
    });
  }

  /** Breaks the connections of certificates that are revoked now. */
  dropRevoked(): void {
    for (const [socket, peer] of this.#known) if (this.#options.isRevoked(peer)) socket.destroy();
  }

  /** Breaks all connections and listens no more. */
  close(): void {
    this.#server.close();
    for (const socket of [...this.#unknown.keys(), ...this.#known.keys()]) socket.destroy();
  }

  #onConnection(socket: Socket): void {
    const from = socket.remoteAddress ?? "";
    socket.on("error", () => {});
    const ofOne = [...this.#unknown.values()].filter((address) => address === from).length;
    const full = this.#unknown.size >= MOST_STRANGERS || ofOne >= MOST_STRANGERS_OF_ONE;
    if (full || this.#rate.left(from, performance.now()) < 1) {
      this.#options.onRefused({ code: "LS_TOO_MANY_CONNECTIONS", why: "too many connections at a time", from });
      return void socket.destroy();
    }
    this.#unknown.set(socket, from);
    socket.once("close", () => this.#unknown.delete(socket));
  }

  #onSecure(socket: TLSSocket): void {
    const { strangers, isRevoked } = this.#options;
    const from = socket.remoteAddress ?? "";
    const certificate = socket.getPeerCertificate();
    const certified = certificate.raw !== undefined;
    const peer = certified ? this.#options.trust.peerOf(certificate) : null;
    const admission = admit({ authorized: socket.authorized, certified, peer }, isRevoked, strangers !== null);
    const known = admission.kind === "member";
    if (!known) this.#rate.take(from, performance.now());
    if (admission.kind === "refused") return this.#refuse(socket, admission);
    if (socket.alpnProtocol !== "h2")
      return this.#refuse(socket, { code: "LS_NOT_GRPC", why: "it does not speak HTTP/2" });
    if (!known) {
      const timer = setTimeout(() => socket.destroy(), STRANGER_MILLIS);
      socket.once("close", () => clearTimeout(timer));
      return this.#strangers?.injectConnection(socket);
    }
    this.#forgetUnknown(socket);
    this.#known.set(socket, admission.peer);
    socket.once("close", () => this.#known.delete(socket));
    this.#members.injectConnection(socket);
  }

  /** The TLS socket has the plain one inside, under which it was counted. */
  #forgetUnknown(socket: TLSSocket): void {
    for (const plain of this.#unknown.keys())
      if (plain.remotePort === socket.remotePort && plain.remoteAddress === socket.remoteAddress)
        this.#unknown.delete(plain);
  }

  #onHandshakeError(error: Error & { readonly code?: string }, socket: TLSSocket): void {
    const from = socket.remoteAddress ?? "";
    this.#rate.take(from, performance.now());
    socket.destroy();
    const plain = /wrong version number|http request/i.test(error.message);
    this.#options.onRefused(
      plain
        ? { code: "LS_PLAIN_TEXT", why: "it speaks plain text to a port that speaks TLS", from }
        : { code: "LS_HANDSHAKE", why: `the handshake failed: ${error.code ?? error.message}`, from },
    );
  }

  #refuse(socket: TLSSocket, { code, why }: { readonly code: `LS_${string}`; readonly why: string }): void {
    this.#options.onRefused({ code, why, from: socket.remoteAddress ?? "" });
    socket.destroy();
  }
}
