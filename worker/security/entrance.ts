import { readFileSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { dirname, join as joinPath } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Server } from "@grpc/grpc-js";
import { LockstepError } from "../../shared/errors.ts";
import { advertisedHost, splitAddress } from "../../shared/process/addresses.ts";
import { requireLoopback } from "../../shared/process/loopback.ts";
import type { Binding } from "../../shared/rpc/service.ts";
import { Gate } from "../../shared/security/gate.ts";
import { type JoinToken, parseLink } from "../../shared/security/join-link.ts";
import { RefusalLog } from "../../shared/security/refusal-log.ts";
import { isRevoked } from "../../shared/security/revocation.ts";
import { suppliedTrust } from "../../shared/security/supplied.ts";
import { type Credentials, Trust } from "../../shared/security/trust.ts";
import type { MemberSecurity } from "../exchange/member-server.ts";
import type { WorkerOptions } from "../options.ts";
import { type Identity, joinRun } from "./obtain.ts";

/** How a worker has come into a run, before it says anything to it. */
export interface Entrance {
  /** host:port of the coordinator, or the path of an endpoints.json that is read at every dial. */
  readonly coordinator: string;
  /** null: nothing is secured. */
  readonly trust: Trust | null;
  /** Comes in again, for a certificate that has ended; null where nobody here issues any. */
  readonly rejoin: (() => Promise<Credentials>) | null;
  /** Where this worker listens. */
  readonly binding: Binding;
}

const LOOK_MILLIS = 200;

/**
 * Finds the coordinator and, where the run is secured, gets a certificate: by the link's token, by that of the run's own
 * directory, or from the user's files.
 * @throws LockstepError LS_USAGE, LS_JOIN_LINK, LS_NOT_LOOPBACK, LS_ADVERTISE, LS_CERTIFICATE, and the coordinator's refusals
 */
export async function enter(
  options: WorkerOptions,
  identity: Identity,
  onWait: (why: string) => void,
): Promise<Entrance> {
  const { join: target, certificates, insecure } = options;
  const ofFile = target.endsWith(".json");
  const link = target.startsWith("lockstep://") ? parseLink(target) : null;
  const coordinator = link?.address ?? target;
  if (certificates !== null) {
    const trust = suppliedTrust(certificates);
    return { coordinator, trust, rejoin: null, binding: bindingFor(options, options.listen ?? "127.0.0.1") };
  }
  const token = link === null ? (ofFile ? await tokenOf(target) : null) : link.token;
  if (token === null) {
    if (link !== null)
      throw new LockstepError("LS_JOIN_LINK", "The link has no token, and no certificates are given.", {
        hint: "Copy the whole line, or give --tls-ca, --tls-cert and --tls-key.",
        exitCode: 2,
      });
    const listen = options.listen ?? "127.0.0.1";
    requireLoopback(listen, insecure);
    if (!ofFile) requireLoopback(splitAddress(target)?.host ?? target, insecure);
    return { coordinator, trust: null, rejoin: null, binding: bindingFor(options, listen) };
  }
  const where = () => (ofFile ? (endpointsIn(target)?.coordinator ?? null) : coordinator);
  const join = () => joinRun(where, token, { identity, name: options.name }, onWait);
  const { credentials, localAddress } = await join();
  // Others of the run are where the coordinator is: what reaches it is what they reach.
  const binding = bindingFor(options, options.listen ?? localAddress);
  return { coordinator, trust: new Trust(credentials), rejoin: async () => (await join()).credentials, binding };
}

/** The side of a secured worker that listens; revocations come with the session. */
export class WorkerSecurity implements MemberSecurity {
  readonly trust: Trust;
  readonly #refusals: RefusalLog;
  readonly #count: (code: string) => void;
  #revoked: ReadonlySet<string> = new Set();
  #gate: Gate | null = null;

  /** @param log hears of some refusals, `count` of the code of each */
  constructor(trust: Trust, log: (refusal: object) => void, count: (code: string) => void = () => {}) {
    this.trust = trust;
    this.#refusals = new RefusalLog(log);
    this.#count = count;
  }

  gate(members: Server): Gate {
    this.#gate = new Gate({
      trust: this.trust,
      members,
      strangers: null,
      isRevoked: (peer) => isRevoked(this.#revoked, peer),
      onRefused: (refusal) => {
        this.#refusals.add(refusal);
        this.#count(refusal.code);
      },
    });
    return this.#gate;
  }

  revoke(keys: readonly string[]): void {
    this.#revoked = new Set(keys);
    this.#gate?.dropRevoked();
  }
}

function bindingFor({ advertise, ports }: WorkerOptions, listen: string): Binding {
  return { host: listen, ports, advertise: advertisedHost(listen, advertise, networkInterfaces()) };
}

interface EndpointsOfRun {
  readonly coordinator: string;
  readonly tls: boolean;
}

/** The token for workers of the coordinator's own machine; null for a run that is not secured. */
async function tokenOf(file: string): Promise<JoinToken | null> {
  for (;;) {
    const endpoints = endpointsIn(file);
    if (endpoints === null) await sleep(LOOK_MILLIS);
    else if (!endpoints.tls) return null;
    else return parseLink(readLink(joinPath(dirname(file), "security", "local-join"))).token;
  }
}

/** null while the coordinator has not said where it is. */
function endpointsIn(file: string): EndpointsOfRun | null {
  try {
    const { coordinator, tls } = JSON.parse(readFileSync(file, "utf8")) as { coordinator?: unknown; tls?: unknown };
    return typeof coordinator === "string" ? { coordinator, tls: tls === true } : null;
  } catch {
    return null;
  }
}

function readLink(file: string): string {
  try {
    return readFileSync(file, "utf8").trim();
  } catch (cause) {
    throw new LockstepError("LS_JOIN_LINK", `${file} cannot be read.`, {
      hint: "Only the run's owner joins by its directory; others join by the line that the coordinator printed.",
      exitCode: 3,
      cause,
    });
  }
}
