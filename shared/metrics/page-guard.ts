import { createHash, timingSafeEqual } from "node:crypto";
import type { FastifyInstance } from "fastify";
import type { Trust } from "../security/trust.ts";

/** How pages are kept from others, where others than this machine can reach them: TLS, and a token that is asked for. */
export interface PageGuard {
  readonly trust: Trust;
  /** null while this process does not know it: then nobody gets in. */
  token(): string | null;
}

/** Whoever keeps a process running asks here, without a token, whether it is well. */
export const HEALTH = "/healthz";

/** What fastify is to be made with; renewed certificates reach it by `guardPages`. */
export const guardOptions = (guard: PageGuard | null) =>
  guard === null
    ? {}
    : {
        https: { cert: guard.trust.current.certificate, key: guard.trust.current.key, minVersion: "TLSv1.3" as const },
      };

/**
 * Every request has to show the token: as a bearer's (RFC 6750), which Prometheus sends, or as the password of whatever user
 * name, which browsers ask for. Only /healthz answers without any, as long as none is shown.
 */
export function guardPages(server: FastifyInstance, { trust, token }: PageGuard): void {
  trust.onChange(({ certificate, key }) => {
    const { server: tls } = server as unknown as { server: { setSecureContext?(options: object): void } };
    tls.setSecureContext?.({ cert: certificate, key, minVersion: "TLSv1.3" });
  });
  server.addHook("onRequest", async (request, reply) => {
    const { authorization } = request.headers;
    if (authorization === undefined && request.url === HEALTH) return;
    const shown = tokenIn(authorization ?? "");
    const wanted = token();
    if (shown !== null && wanted !== null && same(shown, wanted)) return;
    await reply
      .code(401)
      .header("www-authenticate", 'Basic realm="Lockstep: the run\'s http-token is the password", Bearer')
      .send({ code: "LS_HTTP_TOKEN", message: "The token in the run's security/http-token is needed." });
  });
}

function tokenIn(header: string): string | null {
  const [, scheme, value] = /^(Bearer|Basic) +([\w+/=.~-]{1,400})$/i.exec(header) ?? [];
  if (scheme === undefined || value === undefined) return null;
  if (scheme.toLowerCase() === "bearer") return value;
  return Buffer.from(value, "base64")
    .toString("utf8")
    .replace(/^[^:]*:/, "");
}

const hash = (text: string): Buffer => createHash("sha256").update(text).digest();
const same = (a: string, b: string): boolean => timingSafeEqual(hash(a), hash(b));
