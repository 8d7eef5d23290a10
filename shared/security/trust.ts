import { X509Certificate } from "node:crypto";
import {
  checkServerIdentity,
  createSecureContext,
  type PeerCertificate,
  type SecureContext,
  type SecureContextOptions,
} from "node:tls";
import * as grpc from "@grpc/grpc-js";
import { splitAddress } from "../process/addresses.ts";
import { type Peer, peerOf, serialOf } from "./names.ts";

/** What proves who this process is, and whom it believes; all PEM. */
export interface Credentials {
  /** The authority whose certificates count. */
  readonly authority: string;
  /** This process' certificate, with what stands between it and the authority; empty before it has one. */
  readonly certificate: string;
  readonly key: string;
}

/** Downgrades are not negotiated: every part of Lockstep speaks this. */
const OLDEST = "TLSv1.3";

/**
 * The credentials of this process as they are now. They are replaced while it runs, when a certificate is renewed:
 * connections made from then on use the new ones, open ones go on.
 */
export class Trust {
  #current: Credentials;
  #context: SecureContext;
  readonly #listeners = new Set<(credentials: Credentials) => void>();
  /** Certificates say who somebody is in the run; supplied ones say which machine they are for. */
  readonly names: "run" | "machines";

  constructor(credentials: Credentials, names: "run" | "machines" = "run") {
    this.#current = credentials;
    this.#context = createSecureContext(contextOptions(credentials));
    this.names = names;
  }

  get current(): Credentials {
    return this.#current;
  }

  replace(credentials: Credentials): void {
    this.#context = createSecureContext(contextOptions(credentials));
    this.#current = credentials;
    for (const listener of this.#listeners) listener(credentials);
  }

  /** Whom a certificate speaks for that the authority vouches for; null for nobody. */
  peerOf(certificate: PeerCertificate): Peer | null {
    if (this.names === "run") return peerOf(certificate);
    // Supplied certificates have no roles: whoever shows this process' own one is it, everybody else works for the run.
    const own = new X509Certificate(this.#current.certificate).fingerprint256 === certificate.fingerprint256;
    const serial = serialOf(certificate.serialNumber);
    return { role: own ? "operator" : "worker", incarnation: null, serial, token: "" };
  }

  onChange(listener: (credentials: Credentials) => void): void {
    this.#listeners.add(listener);
  }

  /**
   * What a client needs to dial somebody who must be `name` (see names.ts) or, where certificates name machines, the host of
   * the address.
   * @param address host:port
   */
  channel(
    name: string,
    address: string,
  ): { readonly credentials: grpc.ChannelCredentials; readonly options: grpc.ChannelOptions } {
    const host = splitAddress(address)?.host ?? address;
    // An address may not be sent as a server's name (RFC 6066): a name of ours goes, and the address is what is checked.
    const checkMachine = (_name: string, certificate: PeerCertificate) => checkServerIdentity(host, certificate);
    const verify = this.names === "run" ? {} : { checkServerIdentity: checkMachine };
    return {
      credentials: grpc.credentials.createFromSecureContext(this.#context, verify),
      options: { "grpc.ssl_target_name_override": name },
    };
  }
}

/** TLS settings of both sides. @throws the system's error for what is no certificate or key */
export const contextOptions = ({ authority, certificate, key }: Credentials): SecureContextOptions => ({
  ca: authority,
  ...(certificate === "" ? {} : { cert: certificate, key }),
  minVersion: OLDEST,
});
