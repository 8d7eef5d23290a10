import { createPrivateKey, randomBytes, X509Certificate } from "node:crypto";
import { chmodSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { LockstepError, sentenceOf } from "../../shared/errors.ts";
import { splitAddress } from "../../shared/process/addresses.ts";
import { formatLink, type JoinToken, parseLink } from "../../shared/security/join-link.ts";
import { secretHash, type TokenRecord } from "../../shared/security/tokens.ts";
import { replaceFile } from "../files/durable.ts";
import { Authority, hashOf } from "./authority.ts";
import { SecurityFiles } from "./security-files.ts";

/**
 * What a run can be given before it begins, where workers start on other machines at the same time as its coordinator and
 * are to know the line by which they join: the authority, that line, and the token of the pages. The coordinator needs all
 * four files, workers `join` alone, Prometheus `ca.pem` and `http-token`.
 */
const FILES = { certificate: "ca.pem", key: "ca-key.pem", join: "join", pages: "http-token" } as const;

const OWNER = 0o600;
const OWNER_DIRECTORY = 0o700;

/**
 * Makes the files for one run.
 * @param address host:port by which workers will reach the coordinator
 * @throws LockstepError LS_USAGE where the address is none, or the directory is not empty
 */
export async function prepareSecurity(directory: string, address: string): Promise<void> {
  const where = splitAddress(address);
  if (where === null || where.port === 0)
    throw new LockstepError("LS_USAGE", `--address must be host:port; it is "${address}".`, { exitCode: 2 });
  mkdirSync(directory, { recursive: true, mode: OWNER_DIRECTORY });
  if (readdirSync(directory).length > 0)
    throw new LockstepError("LS_USAGE", `${directory} is not empty.`, {
      hint: "What a run was given stays as it is: give another directory.",
      exitCode: 2,
    });
  chmodSync(directory, OWNER_DIRECTORY);
  const { authority, key } = await Authority.create(`at ${address}`);
  const [id, secret] = [randomBytes(4).toString("hex"), randomBytes(16).toString("hex")];
  const token: JoinToken = { authority: authority.hash, id, secret };
  const write = (name: string, text: string) => replaceFile(join(directory, name), `${text.trim()}\n`, OWNER);
  write(FILES.certificate, authority.certificate);
  write(FILES.key, key);
  write(FILES.join, formatLink(where.host, where.port, token));
  write(FILES.pages, randomBytes(24).toString("hex"));
}

/**
 * Gives a run what was prepared for it, before any of its processes starts. An authority that it did not have takes the place
 * of its own one: whatever that one had let in has to come in again, by the prepared line. Otherwise only a line that it did
 * not know is added, so that a token which was revoked stays so, and so do the pages' token and its changes.
 * @throws LockstepError LS_PREPARED where the files are missing or do not belong together
 */
export function adoptPrepared(runDirectory: string, from: string): void {
  const prepared = readPrepared(from);
  const files = new SecurityFiles(runDirectory);
  const another = !files.hasAuthority(prepared.certificate);
  const known = another ? [] : files.readTokens();
  if (!known.some(({ id }) => id === prepared.token.id)) files.writeTokens([...known, recordOf(prepared.token)]);
  if (another || files.readLine("http-token") === null) files.writeText("http-token", prepared.pages);
  // Last: whoever is interrupted before it begins anew, and no token of the authority before is left.
  if (another) files.writeAuthority(prepared);
}

/** It lasts as long as the run: whoever starts workers by it starts them at any time. */
const recordOf = ({ id, secret }: JoinToken): TokenRecord => ({
  ...{ id, secretSha256: secretHash(secret), expires: null, uses: null, revoked: false },
  note: "prepared before the run",
});

interface Prepared {
  /** PEM. */
  readonly certificate: string;
  /** PEM, PKCS #8. */
  readonly key: string;
  readonly token: JoinToken;
  readonly pages: string;
}

function readPrepared(from: string): Prepared {
  const [pem, key, line, pages] = Object.values(FILES).map((name) => readText(join(from, name)));
  const certificate = checked(from, "its authority cannot be read", () => new X509Certificate(pem!));
  const secret = checked(from, "its key cannot be read", () => createPrivateKey(key!));
  if (secret.asymmetricKeyType !== "ec" || secret.asymmetricKeyDetails?.namedCurve !== "prime256v1")
    throw unusable(from, "its key is not of P-256");
  if (!certificate.ca || !certificate.checkPrivateKey(secret))
    throw unusable(from, "its certificate is no authority's, or of another key");
  if (Date.parse(certificate.validTo) < Date.now()) throw unusable(from, "its authority has expired");
  const { token } = checked(from, "its join line is not whole", () => parseLink(line!));
  if (token?.authority !== hashOf(certificate)) throw unusable(from, "its join line is for another authority");
  if (!/^[\w.~-]{16,400}$/.test(pages!)) throw unusable(from, "its http-token is not 16 to 400 letters and digits");
  const pkcs8 = secret.export({ type: "pkcs8", format: "pem" }).toString();
  return { certificate: certificate.toString(), key: pkcs8, token, pages: pages! };
}

function readText(file: string): string {
  try {
    return readFileSync(file, "utf8").trim();
  } catch (cause) {
    throw unusable(file, sentenceOf(cause));
  }
}

function checked<T>(from: string, what: string, read: () => T): T {
  try {
    return read();
  } catch {
    // The cause may show what is secret.
    throw unusable(from, what);
  }
}

const unusable = (what: string, why: string) =>
  new LockstepError("LS_PREPARED", `${what} cannot be used: ${why}.`, {
    hint: "Make the files with `npx lockstep token prepare DIR --address HOST:PORT`, and keep them together.",
    exitCode: 3,
  });
