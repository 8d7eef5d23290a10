import { readFileSync } from "node:fs";
import { rootCertificates } from "node:tls";
import { type Dispatcher, EnvHttpProxyAgent } from "undici";
import { LockstepError } from "../../shared/errors.ts";
import { type PipSettings, pipSettings } from "./pip-settings.ts";

const CONNECT_MILLIS = 20_000;
const SILENCE_MILLIS = 60_000;

/**
 * The way to the web that set-up and the data set take. Node's own fetch ignores HTTP_PROXY, HTTPS_PROXY and NO_PROXY; pip's
 * proxy and certificates count too.
 * @param direct no proxy at all, whatever the settings say
 * @throws LockstepError LS_CERTIFICATES where the certificates cannot be read
 */
export function webDispatcher(settings: PipSettings = pipSettings(), direct = false): Dispatcher {
  const ca =
    settings.certificates === null ? {} : { ca: [...rootCertificates, readCertificates(settings.certificates)] };
  return new EnvHttpProxyAgent({
    // Many proxies open tunnels to port 443 alone; plain HTTP needs none.
    proxyTunnel: false,
    connect: { timeout: CONNECT_MILLIS, ...ca },
    requestTls: ca,
    proxyTls: ca,
    headersTimeout: SILENCE_MILLIS,
    bodyTimeout: SILENCE_MILLIS,
    ...(direct && { noProxy: "*" }),
    ...(settings.proxy !== null && { httpProxy: settings.proxy, httpsProxy: settings.proxy }),
  });
}

function readCertificates(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (cause) {
    throw new LockstepError("LS_CERTIFICATES", `pip's setting "cert" names ${file}, which cannot be read.`, {
      hint: "Mend the setting (PIP_CERT or pip.conf).",
      exitCode: 3,
      cause,
    });
  }
}

/** Splits the credentials off an address: they travel in a header and are never shown. */
export function withoutCredentials(address: string): { readonly url: URL; readonly authorization: string | null } {
  const url = new URL(address);
  const pair = `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`;
  url.username = "";
  url.password = "";
  return { url, authorization: pair === ":" ? null : `Basic ${Buffer.from(pair).toString("base64")}` };
}

/** The innermost sentence of a failed fetch: "fetch failed" says nothing, its cause does. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const inner = error instanceof AggregateError ? error.errors[0] : error.cause;
  if (inner instanceof Error) return reasonOf(inner);
  return error.message || ((error as NodeJS.ErrnoException).code ?? error.name);
}
