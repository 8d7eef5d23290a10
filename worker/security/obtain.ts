import { createHash, generateKeyPairSync, sign, X509Certificate } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { connect } from "node:tls";
import { LockstepError, sentenceOf } from "../../shared/errors.ts";
import { splitAddress } from "../../shared/process/addresses.ts";
import type { Incarnation } from "../../shared/protocol/view.ts";
import { bootstrapClient, type CertificateReply, type RenewRequest, unary } from "../../shared/rpc/clients.ts";
import type { JoinToken } from "../../shared/security/join-link.ts";
import { incarnationOf, joinStatement, PROTOCOL } from "../../shared/security/join-statement.ts";
import { type Credentials, Trust } from "../../shared/security/trust.ts";
import { version } from "../../shared/version.ts";

const DIAL_MILLIS = 5000;
const LEAVE_MILLIS = 500;
const CALL_MILLIS = 10_000;
const FIRST_PAUSE = 200;
const LONGEST_PAUSE = 2000;
/** How long a coordinator that does not answer is dialled, in milliseconds; whoever keeps this worker may start it again. */
const PATIENCE = 600_000;
const LONGEST_CHAIN = 8;

/** The authority of a run, and by which address of this machine its coordinator is reached. */
export interface Reached {
  /** PEM. */
  readonly authority: string;
  readonly localAddress: string;
}

/**
 * Fetches the authority that a token names. Nothing is believed but its hash, and nothing is sent.
 * @param hash SHA-256 of the authority's certificate (DER), in hexadecimal
 * @throws LockstepError LS_WRONG_AUTHORITY where somebody else listens there, LS_UNREACHABLE
 */
export function fetchAuthority(address: string, hash: string): Promise<Reached> {
  return new Promise((resolve, reject) => {
    const { host, port } = splitAddress(address)!;
    const options = { rejectUnauthorized: false, minVersion: "TLSv1.3", ALPNProtocols: ["h2"] } as const;
    const socket = connect({ host, port, timeout: DIAL_MILLIS, ...options }, () => {
      const found = inChain(socket.getPeerX509Certificate(), hash);
      const localAddress = (socket.localAddress ?? "").replace(/^::ffff:(?=\d+\.)/i, "");
      // Broken off, it would be a handshake that failed, there where those are counted.
      socket.end().resume().setTimeout(LEAVE_MILLIS);
      if (found === null) reject(wrongAuthority(address));
      else resolve({ authority: found.toString(), localAddress });
    });
    socket.on("timeout", () => socket.destroy(new Error("it does not answer")));
    socket.on("error", (cause) => reject(unreachable(address, cause)));
  });
}

function inChain(first: X509Certificate | undefined, hash: string): X509Certificate | null {
  let certificate = first;
  for (let depth = 0; certificate !== undefined && depth < LONGEST_CHAIN; depth++) {
    if (createHash("sha256").update(certificate.raw).digest("hex") === hash) return certificate;
    certificate = certificate.issuerCertificate;
  }
  return null;
}

/** A key of this process. */
export interface Keys {
  /** SubjectPublicKeyInfo in DER. */
  readonly publicKey: Buffer;
  /** PEM. */
  readonly key: string;
}

export function newKeys(): Keys {
  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  return {
    publicKey: publicKey.export({ type: "spki", format: "der" }),
    key: privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
  };
}

/** One life of a worker: it is called by the key with which it joins, so that nobody else joins as it. */
export interface Identity {
  readonly incarnation: Incarnation;
  readonly keys: Keys;
}

export function newIdentity(): Identity {
  const keys = newKeys();
  return { incarnation: incarnationOf(keys.publicKey), keys };
}

/** A key, and what asks for its certificate. */
export interface KeyRequest {
  readonly request: RenewRequest;
  /** PEM. */
  readonly key: string;
}

/** @param authority PEM */
export function requestKey(authority: string, incarnation: string, { publicKey, key } = newKeys()): KeyRequest {
  const hash = createHash("sha256").update(new X509Certificate(authority).raw).digest("hex");
  return { request: { publicKey, signature: sign("sha256", joinStatement(hash, incarnation, publicKey), key) }, key };
}

/** @throws LockstepError LS_MALFORMED for a certificate that is not this authority's, or for another key */
export function credentialsFrom({ request, key }: KeyRequest, authority: string, reply: CertificateReply): Credentials {
  const issuer = new X509Certificate(authority);
  const certificate = new X509Certificate(reply.certificate);
  const same = certificate.publicKey.export({ type: "spki", format: "der" }).equals(request.publicKey);
  if (!same || !certificate.checkIssued(issuer) || !certificate.verify(issuer.publicKey))
    throw new LockstepError("LS_MALFORMED", "The certificate that came is not the one that was asked for.");
  return { authority, certificate: reply.certificate, key };
}

export interface Joiner {
  readonly identity: Identity;
  readonly name: string;
}

/**
 * Joins once: the authority by its hash, then a certificate by the secret, over a connection that the authority secures.
 * @throws LockstepError what the coordinator refuses it with; LS_UNREACHABLE and LS_TOO_MANY_JOINS pass by themselves
 */
export async function joinOnce(
  address: string,
  token: JoinToken,
  { identity: { incarnation, keys }, name }: Joiner,
): Promise<Reached & { readonly credentials: Credentials }> {
  const reached = await fetchAuthority(address, token.authority);
  const { authority } = reached;
  const wanted = requestKey(authority, incarnation, keys);
  const client = bootstrapClient(address, new Trust({ authority, certificate: "", key: "" }));
  const about = { protocol: PROTOCOL, version, tokenId: token.id, secret: token.secret, incarnation, name };
  try {
    const deadline = Date.now() + CALL_MILLIS;
    const call = unary<CertificateReply>((done) => client.join({ ...about, ...wanted.request }, { deadline }, done));
    const reply = await call.catch((error: unknown) => Promise.reject(refusalIn(address, error)));
    return { ...reached, credentials: credentialsFrom(wanted, authority, reply) };
  } finally {
    client.close();
  }
}

/** Joins, again and again while the coordinator is away. @throws LockstepError as `joinOnce`, at last LS_UNREACHABLE */
export async function joinRun(
  address: () => string | null,
  token: JoinToken,
  joiner: Joiner,
  onWait: (why: string) => void,
  patience = PATIENCE,
): ReturnType<typeof joinOnce> {
  const until = performance.now() + patience;
  for (let pause = FIRST_PAUSE; ; pause = Math.min(LONGEST_PAUSE, pause * 2)) {
    const where = address();
    try {
      if (where === null) throw unreachable("the coordinator", new Error("it has not said where it listens"));
      return await joinOnce(where, token, joiner);
    } catch (error) {
      const passing = error instanceof LockstepError && ["LS_UNREACHABLE", "LS_TOO_MANY_JOINS"].includes(error.code);
      if (!passing) throw error;
      // It is the coordinator that lacks, and nothing of this machine: whoever keeps the worker may start it again.
      if (performance.now() > until)
        throw new LockstepError(error.code, error.message, {
          hint: "Is the coordinator running?",
          exitCode: 1,
          cause: error,
        });
      onWait(error.message);
    }
    await sleep(pause);
  }
}

/** The coordinator's own refusal, or that it cannot be reached. */
function refusalIn(address: string, error: unknown): LockstepError {
  const { details } = error as { readonly details?: string };
  const said = /^(.*) \[(LS_[A-Z_]+)\]$/.exec(details ?? "");
  if (said !== null) return new LockstepError(said[2] as `LS_${string}`, said[1]!, { exitCode: 3, cause: error });
  return unreachable(address, error);
}

const wrongAuthority = (address: string) =>
  new LockstepError("LS_WRONG_AUTHORITY", `What listens at ${address} is not the run that the token is for.`, {
    hint: "Copy the line that this run's coordinator printed; if you did, somebody else answers in its place.",
    exitCode: 3,
  });

const unreachable = (address: string, cause: unknown) =>
  new LockstepError("LS_UNREACHABLE", `${address} cannot be reached: ${sentenceOf(cause)}.`, {
    hint: "Is the coordinator running, and does a firewall let its ports through?",
    exitCode: 3,
    cause,
  });
