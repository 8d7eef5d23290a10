import type { PeerCertificate } from "node:tls";
import { LockstepError } from "../errors.ts";
import type { Peer, Role } from "./names.ts";
import type { Trust } from "./trust.ts";

/** What is needed of a call: gRPC hands over the certificate of a connection whose handshake held. */
export interface Authenticated {
  getAuthContext?(): { readonly sslPeerCertificate?: PeerCertificate };
}

/**
 * Who calls, where only these may.
 * @param trust null: a port without security, on which everybody may
 * @returns null on such a port
 * @throws LockstepError LS_NOT_ALLOWED
 */
export function requireRole(call: Authenticated, trust: Trust | null, ...roles: readonly Role[]): Peer | null {
  if (trust === null) return null;
  const certificate = call.getAuthContext?.().sslPeerCertificate;
  const peer = certificate === undefined ? null : trust.peerOf(certificate);
  if (peer === null) throw notAllowed(roles);
  // A machine's own supplied certificate is that of all its processes.
  const own = trust.names === "machines" && peer.role === "operator";
  if (own || roles.includes(peer.role)) return peer;
  throw notAllowed(roles);
}

const notAllowed = (roles: readonly Role[]) =>
  new LockstepError("LS_NOT_ALLOWED", `This is for ${roles.join(" or ")} alone.`);
