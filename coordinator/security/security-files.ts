import { chmodSync, linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { LockstepError, sentenceOf } from "../../shared/errors.ts";
import { type Revoked, revokedSchema } from "../../shared/security/revocation.ts";
import { type TokenRecord, tokenRecordSchema } from "../../shared/security/tokens.ts";
import type { Trust } from "../../shared/security/trust.ts";
import { replaceFile, syncDirectory } from "../files/durable.ts";
import { Authority } from "./authority.ts";

/** For whom alone the files are. */
const OWNER = 0o600;
const OWNER_DIRECTORY = 0o700;

/** What others of the owner's processes need, by its name in the directory that they see, and for whom it is there. */
const SHARED: Readonly<Partial<Record<TextFile, string>>> = {
  "local-join": "join",
  "ca.pem": "ca.pem",
  "http-token": "http-token",
};
const GROUP = 0o640;
const GROUP_DIRECTORY = 0o750;

/**
 * What keeps a run to itself, in `security/` of its directory; all of it is the owner's alone:
 *
 *     authority.json   the authority's certificate and key
 *     ca.pem           its certificate, for other programs
 *     operator.json    with which commands on this machine speak to the coordinator
 *     local-join       by which workers of this machine join
 *     join             the line for other machines
 *     tokens.json, revoked.json
 *     nats.*, watch.json, http-token   what guards broadcasts and pages
 */
export class SecurityFiles {
  readonly directory: string;
  readonly #share: string | null;

  /** @param share where copies of the few files go that the owner's processes elsewhere need; its group may read them */
  constructor(runDirectory: string, share: string | null = null) {
    this.#share = share;
    if (share !== null) mkdirSync(share, { recursive: true, mode: GROUP_DIRECTORY });
    this.directory = join(runDirectory, "security");
    mkdirSync(this.directory, { recursive: true, mode: OWNER_DIRECTORY });
    chmodSync(this.directory, OWNER_DIRECTORY);
  }

  get shares(): boolean {
    return this.#share !== null;
  }

  at(name: string): string {
    return join(this.directory, name);
  }

  /** The run's authority, made once: two coordinators that start at the same time get the same. @throws LockstepError LS_SECURITY_FILES */
  async authority(run: string): Promise<Authority> {
    const known = this.#read("authority.json", authoritySchema);
    if (known !== null) return this.#open(known);
    const { authority, key } = await Authority.create(run);
    const partial = this.at(`authority.${process.pid}.partial`);
    writeFileSync(partial, JSON.stringify({ certificate: authority.certificate, key }), { mode: OWNER });
    try {
      linkSync(partial, this.at("authority.json"));
      syncDirectory(this.directory);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    } finally {
      rmSync(partial, { force: true });
    }
    return this.#open(this.#read("authority.json", authoritySchema)!);
  }

  /** Whether this certificate (PEM) is the authority's. @throws LockstepError LS_SECURITY_FILES */
  hasAuthority(certificate: string): boolean {
    return this.#read("authority.json", authoritySchema)?.certificate === certificate;
  }

  /** Takes an authority that was made elsewhere, in the place of an own one. */
  writeAuthority({ certificate, key }: { readonly certificate: string; readonly key: string }): void {
    this.#write("authority.json", { certificate, key });
  }

  writeOperator({ current, names }: Trust): void {
    const { authority, certificate, key } = current;
    this.#write("operator.json", { authority, certificate, key, names });
  }

  readTokens(): readonly TokenRecord[] {
    return this.#read("tokens.json", z.array(tokenRecordSchema)) ?? [];
  }

  writeTokens(tokens: readonly TokenRecord[]): void {
    this.#write("tokens.json", tokens);
  }

  readRevoked(): readonly Revoked[] {
    return this.#read("revoked.json", revokedSchema) ?? [];
  }

  writeRevoked(revoked: readonly Revoked[]): void {
    this.#write("revoked.json", revoked);
  }

  /** How to speak to NATS, as whoever started it has written it; null where nobody has. */
  readNats<T>(schema: z.ZodType<T>): T | null {
    return this.#read("nats.json", schema);
  }

  writeText(name: TextFile, text: string): void {
    const line = `${text.trim()}\n`;
    replaceFile(this.at(name), line, OWNER);
    const shared = SHARED[name];
    if (this.#share !== null && shared !== undefined) replaceFile(join(this.#share, shared), line, GROUP);
  }

  /** A text of one line; null where there is none. */
  readLine(name: "local-join" | "join" | "http-token"): string | null {
    try {
      return readFileSync(this.at(name), "utf8").trim();
    } catch {
      return null;
    }
  }

  #open({ certificate, key }: z.infer<typeof authoritySchema>): Promise<Authority> {
    return Authority.open(certificate, key).catch((cause: unknown) => {
      throw unusable(this.at("authority.json"), cause);
    });
  }

  #write(name: string, value: object): void {
    replaceFile(this.at(name), `${JSON.stringify(value, null, 2)}\n`, OWNER);
  }

  /** null where there is no such file. @throws LockstepError LS_SECURITY_FILES: what cannot be read is never replaced silently */
  #read<T>(name: string, schema: z.ZodType<T>): T | null {
    let text: string;
    try {
      text = readFileSync(this.at(name), "utf8");
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === "ENOENT") return null;
      throw unusable(this.at(name), cause);
    }
    try {
      return schema.parse(JSON.parse(text));
    } catch (cause) {
      throw unusable(this.at(name), cause);
    }
  }
}

/** Files that are text for other programs, or lines for people. */
type TextFile =
  | "ca.pem"
  | "join"
  | "local-join"
  | "http-token"
  | "nats.json"
  | "watch.json"
  | "nats.conf"
  | "nats.pem"
  | "nats-key.pem";

const authoritySchema = z.strictObject({ certificate: z.string(), key: z.string() });

const unusable = (file: string, cause: unknown) =>
  new LockstepError("LS_SECURITY_FILES", `${file} cannot be used: ${sentenceOf(cause).split("\n")[0]}.`, {
    hint: "Bring it back from a backup, or remove the run's folder security/: then every worker has to join by a new line.",
    exitCode: 3,
    cause,
  });
