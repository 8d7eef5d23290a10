import { type FastifyInstance, fastify } from "fastify";
import { bindFirst, hostPort, type Ports } from "../process/addresses.ts";
import { guardOptions, guardPages, HEALTH, type PageGuard } from "./page-guard.ts";
import type { Metrics } from "./registry.ts";

/**
 * Serves /metrics and /healthz of a process, and its own pages beside them. Whoever shows no token hears of /healthz only
 * whether all is well.
 */
export async function servePages(
  metrics: Metrics,
  host: string,
  ports: Ports,
  parts: {
    readonly collect: () => void;
    readonly health: () => { readonly ok: boolean; readonly detail: object };
    readonly more?: (server: FastifyInstance) => void;
    /** Where others than this machine can reach the pages. */
    readonly guard?: PageGuard | null;
    /** What others dial; default: `host`. */
    readonly advertise?: string;
  },
): Promise<{ readonly server: FastifyInstance; readonly address: string }> {
  const server = fastify({ logger: false, forceCloseConnections: true, ...guardOptions(parts.guard ?? null) });
  if (parts.guard) guardPages(server, parts.guard);
  server.get("/metrics", async (_request, reply) => {
    parts.collect();
    return reply.type(metrics.registry.contentType).send(await metrics.registry.metrics());
  });
  const open = (parts.guard ?? null) === null;
  server.get(HEALTH, async ({ headers }, reply) => {
    const { ok, detail } = parts.health();
    // A token that is shown has been checked by now.
    const told = open || headers.authorization !== undefined ? detail : {};
    return reply.code(ok ? 200 : 503).send({ ok, ...told });
  });
  parts.more?.(server);
  await bindFirst(ports, (port) => server.listen({ host, port }));
  const bound = server.server.address();
  return {
    server,
    address: hostPort(parts.advertise ?? host, typeof bound === "object" ? (bound?.port ?? ports.from) : ports.from),
  };
}
