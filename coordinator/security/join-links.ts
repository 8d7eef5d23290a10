import { hostPort } from "../../shared/process/addresses.ts";
import { formatLink, parseLink } from "../../shared/security/join-link.ts";
import { tokenState } from "../../shared/security/tokens.ts";
import type { RunSecurity } from "./run-security.ts";
import type { NewToken } from "./token-book.ts";

/** How long the line that a coordinator prints lets workers in, in milliseconds. */
const PRINTED_MILLIS = 86_400_000;

/** The links by which others join, with the address at which this coordinator listens now. */
export class JoinLinks {
  readonly #security: RunSecurity;
  readonly #address: { readonly host: string; readonly port: number };

  constructor(security: RunSecurity, address: { readonly host: string; readonly port: number }) {
    this.#security = security;
    this.#address = address;
  }

  /** @throws LockstepError LS_NO_TOKENS, LS_TOO_MANY_TOKENS */
  create(token: NewToken): string {
    const { tokens, authorityHash } = this.#security;
    return formatLink(this.#address.host, this.#address.port, tokens.create(authorityHash!, token));
  }

  /**
   * Writes the files that others read: the link for workers of this machine, and the line for other machines, which is new
   * when a person starts the run.
   * @param openly whoever reads the answer may know the secret: it stays out of logs
   * @returns what a person is to type on another machine
   */
  announce(start: boolean, openly: boolean): string {
    const { files, authorityHash } = this.#security;
    if (authorityHash === null) {
      const { host, port } = this.#address;
      return lineOf(`lockstep://${hostPort(host, port)} --tls-ca CA.pem --tls-cert CERT.pem --tls-key KEY.pem`);
    }
    this.keepLocal();
    const printed = { lifetime: PRINTED_MILLIS, uses: null, note: "printed by the coordinator" };
    const join = start ? this.create(printed) : this.#keptOr("join", printed);
    files.writeText("join", join);
    return lineOf(openly ? join : `FILE (a copy of ${files.at("join")})`);
  }

  /** Workers of this machine can join, also where their token was revoked. */
  keepLocal(): void {
    const { files, authorityHash } = this.#security;
    if (authorityHash === null) return;
    const token = { lifetime: null, uses: null, note: "workers of the coordinator's machine" };
    files.writeText("local-join", this.#keptOr("local-join", token));
  }

  /** The token of a file as long as it is valid, with the address of now. */
  #keptOr(name: "local-join" | "join", otherwise: NewToken): string {
    const { files, tokens } = this.#security;
    const line = files.readLine(name);
    const { token } = line === null ? { token: null } : parseLink(line);
    const record = tokens.list.find(({ id }) => id === token?.id);
    const valid = record !== undefined && tokenState(record, Date.now()) === "valid";
    return token !== null && valid ? formatLink(this.#address.host, this.#address.port, token) : this.create(otherwise);
  }
}

const lineOf = (link: string): string => `npx lockstep worker --join ${link}`;
