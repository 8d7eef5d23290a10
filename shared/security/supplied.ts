import { readFileSync } from "node:fs";
import { LockstepError, sentenceOf } from "../errors.ts";
import { type Credentials, Trust } from "./trust.ts";

/** Files of certificates that somebody else issues and renews, PEM. */
export interface CertificateFiles {
  readonly authority: string;
  readonly certificate: string;
  readonly key: string;
}

/** How often the files are looked at for renewed certificates, in milliseconds. */
const LOOK_MILLIS = 60_000;

/**
 * Three options make one set of files; none makes null.
 * @throws LockstepError LS_USAGE where some are missing
 */
export function certificateFiles(
  options: Readonly<Partial<Record<"tls-ca" | "tls-cert" | "tls-key", string | undefined>>>,
): CertificateFiles | null {
  const { "tls-ca": authority, "tls-cert": certificate, "tls-key": key } = options;
  if (authority === undefined && certificate === undefined && key === undefined) return null;
  if (authority !== undefined && certificate !== undefined && key !== undefined) return { authority, certificate, key };
  throw new LockstepError("LS_USAGE", "--tls-ca, --tls-cert and --tls-key belong together.", { exitCode: 2 });
}

/** Trust in supplied certificates, which follows the files. @throws LockstepError LS_CERTIFICATE */
export function suppliedTrust(files: CertificateFiles, look = LOOK_MILLIS): Trust {
  let read = readFiles(files);
  const trust = make(files, () => new Trust(read, "machines"));
  setInterval(() => {
    try {
      const next = readFiles(files);
      if (JSON.stringify(next) === JSON.stringify(read)) return;
      trust.replace(next);
      read = next;
    } catch {
      // Half-way through a renewal: the next look finds all of it, and the old ones serve until then.
    }
  }, look).unref();
  return trust;
}

function readFiles({ authority, certificate, key }: CertificateFiles): Credentials {
  const [ca, cert, secret] = [authority, certificate, key].map((path) => make(path, () => readFileSync(path, "utf8")));
  return { authority: ca!, certificate: cert!, key: secret! };
}

function make<T>(what: string | CertificateFiles, build: () => T): T {
  try {
    return build();
  } catch (cause) {
    const files = typeof what === "string" ? what : Object.values(what).join(", ");
    throw new LockstepError("LS_CERTIFICATE", `${files} cannot be used: ${sentenceOf(cause)}.`, { exitCode: 3, cause });
  }
}
