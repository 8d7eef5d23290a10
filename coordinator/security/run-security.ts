import { randomBytes } from "node:crypto";
import type { Server } from "@grpc/grpc-js";
import { LockstepError } from "../../shared/errors.ts";
import type { JoinRequest, RenewRequest } from "../../shared/rpc/clients.ts";
import { Gate, type Refusal } from "../../shared/security/gate.ts";
import type { Peer } from "../../shared/security/names.ts";
import { untilRenewal, untilRetry } from "../../shared/security/renewal.ts";
import { isRevoked, type Revoked, revoke } from "../../shared/security/revocation.ts";
import { type CertificateFiles, suppliedTrust } from "../../shared/security/supplied.ts";
import { Trust } from "../../shared/security/trust.ts";
import type { Authority, Issued } from "./authority.ts";
import { JoinDesk } from "./join-desk.ts";
import { SecurityFiles } from "./security-files.ts";
import { Tokens } from "./token-book.ts";

/** Lifetime of certificates where nobody says otherwise, in milliseconds: a worker that is gone is forgotten in a day. */
export const CERTIFICATE_MILLIS = 86_400_000;

const FAREWELL_MILLIS = 250;

export interface SecurityOptions {
  readonly run: string;
  /** The run's directory. */
  readonly directory: string;
  /** Where copies of what the owner's other processes need are kept. */
  readonly share?: string | null;
  /** Names and addresses of this machine, for clients that know no roles. */
  readonly hosts: readonly string[];
  /** Of certificates, in milliseconds. */
  readonly lifetime: number;
  /** Certificates of the user's own; null: the run has an authority of its own. */
  readonly supplied: CertificateFiles | null;
  /** What rates are counted by, in milliseconds (default: performance.now). */
  readonly clock?: () => number;
  onRefused(refusal: Refusal): void;
  /** Whoever was revoked; their connections are broken already. */
  onRevoked(): void;
}

/** What a run with an authority of its own has beside its trust. */
interface Own {
  readonly authority: Authority;
  readonly tokens: Tokens;
  readonly desk: JoinDesk;
}

/** Who may take part in a run, as its coordinator decides it. */
export class RunSecurity {
  readonly files: SecurityFiles;
  readonly trust: Trust;
  readonly #options: SecurityOptions;
  readonly #own: Own | null;
  #revoked: readonly Revoked[];
  #gate: Gate | null = null;
  #timer: NodeJS.Timeout | null = null;

  private constructor(options: SecurityOptions, files: SecurityFiles, trust: Trust, own: Own | null) {
    this.#options = options;
    this.files = files;
    this.trust = trust;
    this.#own = own;
    this.#revoked = files.readRevoked();
  }

  /** @throws LockstepError LS_SECURITY_FILES, LS_CERTIFICATE */
  static async open(options: SecurityOptions): Promise<RunSecurity> {
    const files = new SecurityFiles(options.directory, options.share ?? null);
    if (options.supplied !== null) {
      const trust = suppliedTrust(options.supplied);
      files.writeOperator(trust);
      trust.onChange(() => files.writeOperator(trust));
      const security = new RunSecurity(options, files, trust, null);
      security.#share();
      return security;
    }
    const authority = await files.authority(options.run);
    const tokens = new Tokens(files);
    const desk = new JoinDesk(authority, tokens, options.lifetime, options.clock);
    const first = await authority.equip(
      { role: "coordinator", name: "coordinator", hosts: options.hosts },
      options.lifetime,
    );
    const security = new RunSecurity(options, files, new Trust(first), { authority, tokens, desk });
    files.writeText("ca.pem", authority.certificate);
    await security.#equipOperator(authority);
    security.#share();
    security.#renewAt(untilRenewal(Date.now(), first.until, Date.now()), authority);
    return security;
  }

  /** PEM of the authority and SHA-256 of it; the hash is null for a user's own. */
  get authorityHash(): string | null {
    return this.#own?.authority.hash ?? null;
  }

  /** What pages beyond loopback ask for. */
  get httpToken(): string {
    const known = this.files.readLine("http-token");
    return known !== null && known !== "" ? known : this.#newHttpToken();
  }

  /** A directory of another life of the run, or a new one, gets what there is already. */
  #share(): void {
    if (!this.files.shares) return;
    this.files.writeText("http-token", this.httpToken);
  }

  #newHttpToken(): string {
    const made = randomBytes(24).toString("hex");
    this.files.writeText("http-token", made);
    return made;
  }

  get revoked(): readonly string[] {
    return this.#revoked.map(({ key }) => key);
  }

  /** @throws LockstepError LS_NO_TOKENS: whoever supplies certificates lets workers in by them */
  get tokens(): Tokens {
    return this.#ofOwn().tokens;
  }

  gate(members: Server, strangers: Server): Gate {
    this.#gate = new Gate({
      trust: this.trust,
      members,
      strangers: this.#own === null ? null : strangers,
      isRevoked: (peer) => isRevoked(new Set(this.revoked), peer),
      onRefused: this.#options.onRefused,
    });
    return this.#gate;
  }

  /** A first certificate, see JoinDesk. */
  async join(request: JoinRequest, from: string): Promise<Issued> {
    try {
      return await this.#ofOwn().desk.join(request, from);
    } catch (error) {
      if (error instanceof LockstepError) this.#options.onRefused({ code: error.code, why: error.message, from });
      throw error;
    }
  }

  renew(peer: Peer, request: RenewRequest): Promise<Issued> {
    return this.#ofOwn().desk.renew(peer, request);
  }

  /** From now on a worker is not let in any more, nor is anybody by its token, and pages ask for another one than it knew. */
  revokeWorker(peer: Peer, name: string, now = Date.now()): void {
    const key = peer.incarnation ?? peer.serial;
    this.#revoked = revoke(
      this.#revoked,
      { key, until: now + Math.max(this.#options.lifetime, CERTIFICATE_MILLIS), name },
      now,
    );
    try {
      this.files.writeRevoked(this.#revoked);
      if (this.#own?.tokens.list.some(({ id }) => id === peer.token)) this.#own.tokens.revoke(peer.token);
      this.#newHttpToken();
    } finally {
      // Also where a full disk keeps nothing of it: whoever runs now shuts it out.
      this.#options.onRevoked();
      // It gets the time to hear why; new connections are refused from now on.
      setTimeout(() => this.#gate?.dropRevoked(), FAREWELL_MILLIS).unref();
    }
  }

  close(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#gate?.close();
  }

  #ofOwn(): Own {
    if (this.#own !== null) return this.#own;
    throw new LockstepError("LS_NO_TOKENS", "This run uses certificates that were supplied; it has no tokens.", {
      hint: "Issue a certificate of the same authority for the new worker.",
    });
  }

  #renewAt(wait: number, authority: Authority): void {
    this.#timer = setTimeout(() => void this.#renew(authority), wait);
    this.#timer.unref();
  }

  async #renew(authority: Authority): Promise<void> {
    const { hosts, lifetime } = this.#options;
    try {
      const next = await authority.equip({ role: "coordinator", name: "coordinator", hosts }, lifetime);
      this.trust.replace(next);
      await this.#equipOperator(authority);
      this.#renewAt(untilRenewal(Date.now(), next.until, Date.now()), authority);
    } catch {
      // A full disk keeps the operator's file as it is; a third of the lifetime is left for trying again.
      this.#renewAt(untilRetry(0, lifetime), authority);
    }
  }

  async #equipOperator(authority: Authority): Promise<void> {
    const credentials = await authority.equip({ role: "operator", name: "operator" }, this.#options.lifetime);
    this.files.writeOperator(new Trust(credentials));
  }
}
