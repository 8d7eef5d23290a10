import type { Peer } from "./names.ts";

/** What a server knows of a connection once its handshake is done. */
export interface Arrival {
  /** A certificate was shown, and the run's authority vouches for it now. */
  readonly authorized: boolean;
  /** Whether any certificate was shown. */
  readonly certified: boolean;
  readonly peer: Peer | null;
}

export type Admission =
  | { readonly kind: "member"; readonly peer: Peer }
  /** Nobody yet: may ask for a certificate, and for nothing else. */
  | { readonly kind: "stranger" }
  | { readonly kind: "refused"; readonly code: `LS_${string}`; readonly why: string };

/**
 * Where a connection is led.
 * @param bootstraps whether this server hands out certificates
 */
export function admit(
  { authorized, certified, peer }: Arrival,
  isRevoked: (peer: Peer) => boolean,
  bootstraps: boolean,
): Admission {
  if (!certified) {
    if (bootstraps) return { kind: "stranger" };
    return { kind: "refused", code: "LS_NO_CERTIFICATE", why: "no certificate was shown" };
  }
  if (!authorized)
    return { kind: "refused", code: "LS_UNKNOWN_AUTHORITY", why: "its certificate has expired or is of another run" };
  if (peer === null)
    return { kind: "refused", code: "LS_UNKNOWN_ROLE", why: "its certificate says nobody's name in this run" };
  if (isRevoked(peer)) return { kind: "refused", code: "LS_REVOKED", why: "its certificate was revoked" };
  return { kind: "member", peer };
}
