import type { PeerCertificate } from "node:tls";
import type { Incarnation } from "../protocol/view.ts";

/**
 * Who a certificate of a run speaks for. Names are not those of machines: a worker may move, have several addresses or
 * sit behind a translated one, and stays who it is.
 */
export type Role = "coordinator" | "worker" | "operator" | "nats";

/** Who is at the other end of a connection. */
export interface Peer {
  readonly role: Role;
  /** A worker's incarnation; null for others, and for certificates that were supplied and name nobody. */
  readonly incarnation: Incarnation | null;
  /** As `serialOf` writes it. */
  readonly serial: string;
  /** Name of the token by which a worker came; empty where there is none. */
  readonly token: string;
}

export const COORDINATOR_NAME = "coordinator.lockstep";
/** Any worker of the run. */
export const WORKER_NAME = "worker.lockstep";
export const workerName = (incarnation: string): string => `${incarnation}.${WORKER_NAME}`;

/** Names in a certificate of this role. */
export function certificateNames(role: Role, incarnation: string | null): string[] {
  if (role === "coordinator") return [COORDINATOR_NAME];
  return role === "worker" && incarnation !== null ? [WORKER_NAME, workerName(incarnation)] : [];
}

/** A serial number in one form: upper case, no leading zeros. */
export const serialOf = (hex: string): string => hex.toUpperCase().replace(/^0+(?=.)/, "");

/** Those that speak gRPC. */
const ROLES: readonly Role[] = ["coordinator", "worker", "operator"];

/** Whom a certificate that this run's authority issued speaks for; null for one that does not say. */
export function peerOf({ subject, serialNumber }: Pick<PeerCertificate, "subject" | "serialNumber">): Peer | null {
  const role = ROLES.find((name) => name === subject?.OU);
  if (role === undefined || typeof serialNumber !== "string") return null;
  const name = String(subject.CN);
  if (role === "worker" && !/^[0-9a-f]{16}$/.test(name)) return null;
  const incarnation = role === "worker" ? (name as Incarnation) : null;
  return { role, incarnation, serial: serialOf(serialNumber), token: String(subject.O ?? "") };
}
