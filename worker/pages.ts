import type { FastifyInstance } from "fastify";
import { Broadcaster } from "../shared/broadcast/broadcaster.ts";
import type { Config } from "../shared/config/schema.ts";
import { servePages } from "../shared/metrics/pages.ts";
import { Metrics } from "../shared/metrics/registry.ts";
import type { LedgerEntry } from "../shared/protocol/trailer.ts";
import type { Incarnation } from "../shared/protocol/view.ts";
import { version } from "../shared/version.ts";
import type { LockstepWorker } from "./worker.ts";

/** Milliseconds between two broadcasts of a worker's own account. */
const TELL_MILLIS = 1000;

/** What a worker shows to the outside: Prometheus metrics, health, and its broadcast of final steps. */
export class WorkerPages {
  private readonly metrics = new Metrics("worker");
  private server: FastifyInstance | null = null;
  private worker: LockstepWorker | null = null;
  private broadcaster: Broadcaster | null = null;
  private config: Config | null = null;

  async start(host: string, port: number): Promise<string> {
    this.metrics.set("lockstep_build_info", 1, { part: "worker", version, node: process.version });
    const collect = () => this.collect();
    const health = () => ({ ok: this.worker !== null, detail: { step: this.worker?.member.tip.step ?? null } });
    const { server, address } = await servePages(this.metrics, host, port, { collect, health });
    this.server = server;
    return address;
  }

  /** The worker is loaded. From now on its metrics are its own, and it tells how it is doing once a second. */
  attach(worker: LockstepWorker, config: Config, name: string): void {
    this.worker = worker;
    this.config = config;
    const { recipe } = config.recipe;
    this.metrics.set("lockstep_run_info", 1, { run: config.runId, model: config.recipe.model.name, recipe });
    if (config.place.nats === null) return;
    const broadcaster = new Broadcaster(config.place.nats, config.runId);
    this.broadcaster = broadcaster;
    setInterval(() => broadcaster.publishWorker(name, worker.member.self, worker.progress()), TELL_MILLIS).unref();
  }

  /** Every member broadcasts each final step; consumers drop repeats by (view, step). */
  onFinal(entry: LedgerEntry, self: Incarnation): void {
    if (this.broadcaster === null || this.config === null) return;
    this.broadcaster.publishStep(entry, self, this.config);
  }

  async close(): Promise<void> {
    await Promise.all([this.server?.close(), this.broadcaster?.close()]);
  }

  private collect(): void {
    const { metrics, worker } = this;
    if (worker === null) return;
    const counters = worker.control.counters.read();
    metrics.total("lockstep_images_total", counters.images);
    metrics.total("lockstep_micro_batches_total", counters.microBatches);
    metrics.total("lockstep_loader_stalls_total", counters.loaderStalls);
    metrics.set("lockstep_loader_ready", counters.loaderReady);
    metrics.set("lockstep_shard_seconds", counters.shardMillis / 1000);
    for (const phase of ["loading", "compute", "update", "hash"] as const) {
      metrics.total("lockstep_phase_seconds_total", counters[`${phase}Millis`] / 1000, { phase });
    }
    metrics.total("lockstep_exchange_bytes_total", worker.exchange.bytesReceived, { direction: "received" });
    metrics.total("lockstep_exchange_bytes_total", worker.exchange.bytesSent, { direction: "sent" });
    metrics.total("lockstep_exchange_refused_chunks_total", worker.exchange.chunksRefused);
    metrics.set("lockstep_worker_step", worker.member.tip.step);
    metrics.set("lockstep_worker_level", worker.progress().level ? 1 : 0);
    metrics.set("lockstep_nats_connected", this.broadcaster?.connected ? 1 : 0);
    metrics.total("lockstep_nats_dropped_messages_total", this.broadcaster?.dropped ?? 0);
  }
}
