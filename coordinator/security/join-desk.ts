import { createPublicKey, verify } from "node:crypto";
import { LockstepError } from "../../shared/errors.ts";
import type { JoinRequest, RenewRequest } from "../../shared/rpc/clients.ts";
import { incarnationOf, joinStatement, PROTOCOL } from "../../shared/security/join-statement.ts";
import type { Peer } from "../../shared/security/names.ts";
import { RateBound } from "../../shared/security/rate-bound.ts";
import { useToken } from "../../shared/security/tokens.ts";
import { version } from "../../shared/version.ts";
import type { Authority, Issued } from "./authority.ts";
import type { Tokens } from "./token-book.ts";

/** Attempts from one address and from all together; guessing a secret of 128 bits is hopeless, this bounds the work. */
const OF_ONE = { burst: 40, perSecond: 2 };
const OF_ALL = { burst: 200, perSecond: 20 };
const MOST_KEY = 200;

/** Hands out certificates: to whoever knows a token's secret, and to workers whose certificate is about to end. */
export class JoinDesk {
  readonly #authority: Authority;
  readonly #tokens: Tokens;
  readonly #lifetime: number;
  readonly #clock: () => number;
  readonly #ofOne = new RateBound(OF_ONE);
  readonly #ofAll = new RateBound(OF_ALL);

  /** @param lifetime of certificates, in milliseconds */
  constructor(authority: Authority, tokens: Tokens, lifetime: number, clock = () => performance.now()) {
    this.#clock = clock;
    this.#authority = authority;
    this.#tokens = tokens;
    this.#lifetime = lifetime;
  }

  /**
   * A first certificate.
   * @param from address of whoever asks, without its port
   * @throws LockstepError LS_TOO_MANY_JOINS, LS_PROTOCOL, LS_MALFORMED, LS_TOKEN_UNKNOWN, LS_TOKEN_REVOKED, LS_TOKEN_EXPIRED, LS_TOKEN_USED
   */
  async join(request: JoinRequest, from: string, now = Date.now()): Promise<Issued> {
    const at = this.#clock();
    if (!this.#ofOne.take(from, at) || !this.#ofAll.take("", at)) throw tooMany();
    if (request.protocol !== PROTOCOL) throw otherProtocol(request);
    const { incarnation, publicKey, signature } = request;
    checkKey(incarnation, publicKey, signature, this.#authority.hash);
    // A token lets somebody in, and as nobody who is in already.
    if (incarnation !== incarnationOf(publicKey)) throw malformed("its incarnation is not that of its key");
    this.#tokens.replace(useToken(this.#tokens.list, request.tokenId, request.secret, now));
    return this.#issue(incarnation, request.tokenId, publicKey);
  }

  /** The next certificate of a worker that has one. @throws LockstepError LS_TOO_MANY_JOINS, LS_MALFORMED */
  async renew({ incarnation, token }: Peer, { publicKey, signature }: RenewRequest): Promise<Issued> {
    if (incarnation === null) throw new LockstepError("LS_NOT_ALLOWED", "Supplied certificates are not renewed here.");
    if (!this.#ofOne.take(incarnation, this.#clock())) throw tooMany();
    checkKey(incarnation, publicKey, signature, this.#authority.hash);
    return this.#issue(incarnation, token, publicKey);
  }

  #issue(name: string, token: string, key: Buffer): Promise<Issued> {
    // Web cryptography wants memory of its own.
    return this.#authority.issue({ role: "worker", name, token, publicKey: new Uint8Array(key) }, this.#lifetime);
  }
}

/** Nobody gets a certificate for a key that is not in their hands. @throws LockstepError LS_MALFORMED */
function checkKey(incarnation: string, publicKey: Buffer, signature: Buffer, authority: string): void {
  if (!/^[0-9a-f]{16}$/.test(incarnation)) throw malformed("it names no incarnation");
  if (publicKey.length > MOST_KEY || signature.length > MOST_KEY) throw malformed("its key is too long");
  try {
    const key = createPublicKey({ key: publicKey, format: "der", type: "spki" });
    if (key.asymmetricKeyType !== "ec" || key.asymmetricKeyDetails?.namedCurve !== "prime256v1")
      throw malformed("its key is not of P-256");
    if (verify("sha256", joinStatement(authority, incarnation, publicKey), key, signature)) return;
  } catch (error) {
    if (error instanceof LockstepError) throw error;
    throw malformed("its key cannot be read");
  }
  throw malformed("its signature does not belong to its key");
}

const malformed = (what: string) =>
  new LockstepError("LS_MALFORMED", `The request for a certificate is malformed: ${what}.`);

const tooMany = () =>
  new LockstepError("LS_TOO_MANY_JOINS", "Too many workers ask for a certificate at a time.", {
    hint: "It is tried again by itself.",
  });

const otherProtocol = (request: JoinRequest) =>
  new LockstepError(
    "LS_PROTOCOL",
    `The worker speaks protocol ${request.protocol} (Lockstep ${request.version}), the run protocol ${PROTOCOL} (Lockstep ${version}).`,
    { hint: "Use the version of Lockstep that the coordinator has.", exitCode: 3 },
  );
