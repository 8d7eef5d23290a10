import { type FastifyInstance, fastify } from "fastify";
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
  },
): Promise<{ readonly server: FastifyInstance; readonly address: string }> {
  const server = fastify({ logger: false, forceCloseConnections: true });
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
  return { server, address: `${host}:${typeof bound === "object" ? bound?.port : port}` };
}
