import type { FastifyInstance } from "fastify";
import { Broadcaster } from "../shared/broadcast/broadcaster.ts";
import type { Config } from "../shared/config/schema.ts";
import { servePages } from "../shared/metrics/pages.ts";
import { refusalCode } from "../shared/metrics/refusal-code.ts";
import { Metrics } from "../shared/metrics/registry.ts";
import type { PagePlace } from "../shared/process/page-place.ts";
import type { NatsAccess } from "../shared/protocol/messages.ts";
import type { LedgerEntry } from "../shared/protocol/trailer.ts";
import type { Incarnation } from "../shared/protocol/view.ts";
import { version } from "../shared/version.ts";
import { type GpuReading, GpuWatch } from "./gpu-watch.ts";
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
  private readonly gpus = new GpuWatch(process.env.CUDA_VISIBLE_DEVICES ?? "");
  private peers: ReadonlySet<Incarnation> = new Set();

  async start({ host, ports, advertise, guard }: PagePlace): Promise<string> {
    this.metrics.set("lockstep_build_info", 1, { part: "worker", version, node: process.version });
    const collect = () => this.collect();
    const health = () => ({ ok: this.worker !== null, detail: { step: this.worker?.member.tip.step ?? null } });
    const { server, address } = await servePages(this.metrics, host, ports, { collect, health, advertise, guard });
    this.server = server;
    return address;
  }

  refused(code: string): void {
    this.metrics.add("lockstep_refused_total", 1, { code: refusalCode(code) });
  }

  /** The worker is loaded. From now on its metrics are its own, and it tells how it is doing once a second. */
  attach(worker: LockstepWorker, config: Config, name: string, nats: NatsAccess | null = null): void {
    this.worker = worker;
    this.config = config;
    const { recipe } = config.recipe;
    this.metrics.set("lockstep_run_info", 1, { run: config.runId, model: config.recipe.model.name, recipe });
    if (config.place.nats === null) return;
    const broadcaster = new Broadcaster(config.place.nats, config.runId, undefined, nats);
    this.broadcaster = broadcaster;
    setInterval(() => broadcaster.publishWorker(name, worker.member.self, worker.progress()), TELL_MILLIS).unref();
  }

  /** How to speak to NATS from now on. */
  access(nats: NatsAccess | null): void {
    if (nats !== null) this.broadcaster?.renew(nats);
  }

  /** Every member broadcasts each final step; consumers drop repeats by (view, step). */
  onFinal(entry: LedgerEntry, self: Incarnation): void {
    if (this.broadcaster === null || this.config === null) return;
    this.broadcaster.publishStep(entry, self, this.config);
  }

  async close(): Promise<void> {
    this.gpus.close();
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
    metrics.set("lockstep_tensors", counters.tensors);
    this.collectClock(worker);
    this.collectGpus();
    metrics.set("lockstep_worker_step", worker.member.tip.step);
    metrics.set("lockstep_worker_level", worker.progress().level ? 1 : 0);
    metrics.set("lockstep_nats_connected", this.broadcaster?.connected ? 1 : 0);
    metrics.total("lockstep_nats_dropped_messages_total", this.broadcaster?.dropped ?? 0);
  }

  private collectClock({ clock }: LockstepWorker): void {
    const { metrics } = this;
    metrics.total("lockstep_exchange_exposed_seconds_total", clock.exposedMillis / 1000);
    for (const outcome of ["equal", "different"] as const)
      metrics.total("lockstep_hash_checks_total", clock.checks[outcome], { outcome });
    for (const [peer, millis] of clock.waits) {
      metrics.total("lockstep_exchange_wait_seconds_total", millis / 1000, { peer });
    }
    // Who left the view is not waited for; every life of a worker has a name of its own, so that they would add up.
    for (const peer of this.peers)
      if (!clock.waits.has(peer)) metrics.forget("lockstep_exchange_wait_seconds_total", { peer });
    this.peers = new Set(clock.waits.keys());
  }

  private collectGpus(): void {
    const { metrics, gpus } = this;
    const series = (figure: Exclude<keyof GpuReading, "index">) =>
      gpus.readings.flatMap(({ index, [figure]: value }) => (value === null ? [] : [[{ gpu: index }, value] as const]));
    metrics.replace("lockstep_gpu_utilization_ratio", series("utilizationRatio"));
    metrics.replace("lockstep_gpu_memory_used_bytes", series("memoryUsedBytes"));
    metrics.replace("lockstep_gpu_memory_size_bytes", series("memorySizeBytes"));
    metrics.replace("lockstep_gpu_power_watts", series("powerWatts"));
    metrics.replace("lockstep_gpu_temperature_celsius", series("temperatureCelsius"));
    const clocks = (["sm", "memory"] as const).flatMap((clock) =>
      series(`${clock}ClockHertz`).map(([labels, value]) => [{ ...labels, clock }, value] as const),
    );
    metrics.replace("lockstep_gpu_clock_hertz", clocks);
    for (const [labels, errors] of series("uncorrectedErrors"))
      metrics.total("lockstep_gpu_uncorrected_errors_total", errors, labels);
  }
}
