import { type FastifyInstance, fastify } from "fastify";
import { hostPort } from "../process/addresses.ts";
import { guardOptions, guardPages, type PageGuard } from "./page-guard.ts";
import type { Metrics } from "./registry.ts";

/** Serves /metrics and /healthz of a process, and its own pages beside them. */
export async function servePages(
  metrics: Metrics,
  host: string,
  port: number,
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
  server.get("/healthz", async (_request, reply) => {
    const { ok, detail } = parts.health();
    return reply.code(ok ? 200 : 503).send({ ok, ...detail });
  });
  parts.more?.(server);
  await server.listen({ host, port });
  const bound = server.server.address();
  return {
    server,
    address: hostPort(parts.advertise ?? host, typeof bound === "object" ? (bound?.port ?? port) : port),
  };
}
