import { randomBytes } from "node:crypto";
import { LockstepError } from "../../shared/errors.ts";
import type { JoinToken } from "../../shared/security/join-link.ts";
import { secretHash, type TokenRecord, tokenState } from "../../shared/security/tokens.ts";

/** Most that are kept; those that let nobody in any more make room. */
const MOST_TOKENS = 256;

/** What is done with tokens: whoever keeps them writes every change. */
export interface TokenFile {
  readTokens(): readonly TokenRecord[];
  writeTokens(tokens: readonly TokenRecord[]): void;
}

export interface NewToken {
  /** Milliseconds; null: until it is revoked. */
  readonly lifetime: number | null;
  readonly uses: number | null;
  readonly note: string;
}

/** The tokens of a run. They outlive a coordinator. */
export class Tokens {
  readonly #file: TokenFile;
  #list: readonly TokenRecord[];

  constructor(file: TokenFile) {
    this.#file = file;
    this.#list = file.readTokens();
  }

  get list(): readonly TokenRecord[] {
    return this.#list;
  }

  /** @throws LockstepError LS_TOO_MANY_TOKENS */
  create(authority: string, { lifetime, uses, note }: NewToken, now = Date.now()): JoinToken {
    const valid = this.#list.filter((record) => tokenState(record, now) === "valid");
    const kept = this.#list.length < MOST_TOKENS ? this.#list : valid;
    if (kept.length >= MOST_TOKENS)
      throw new LockstepError("LS_TOO_MANY_TOKENS", `There are ${kept.length} valid tokens already.`, {
        hint: "Revoke some: npx lockstep token revoke RUN ID.",
      });
    const [id, secret] = [randomBytes(4).toString("hex"), randomBytes(16).toString("hex")];
    const expires = lifetime === null ? null : now + lifetime;
    this.#keep([...kept, { id, secretSha256: secretHash(secret), expires, uses, revoked: false, note }]);
    return { authority, id, secret };
  }

  /** A token as it is after a use. */
  replace(record: TokenRecord): void {
    const before = this.#list.find(({ id }) => id === record.id);
    if (JSON.stringify(before) !== JSON.stringify(record))
      this.#keep(this.#list.map((one) => (one.id === record.id ? record : one)));
  }

  /** @throws LockstepError LS_TOKEN_UNKNOWN */
  revoke(id: string): void {
    const record = this.#list.find((one) => one.id === id);
    if (record === undefined)
      throw new LockstepError("LS_TOKEN_UNKNOWN", `There is no token ${id}.`, {
        hint: "See `npx lockstep token list RUN`.",
      });
    this.replace({ ...record, revoked: true });
  }

  #keep(list: readonly TokenRecord[]): void {
    this.#file.writeTokens(list);
    this.#list = list;
  }
}
