import { connect, type NatsConnection } from "nats";
import type { Config } from "../config/schema.ts";
import type { LedgerEntry } from "../protocol/trailer.ts";
import { viewName } from "../protocol/view.ts";
import { type EventMessage, type StepMessage, subjectOf } from "./schema.ts";

const MOST_QUEUED = 1000;

/**
 * Publishes on NATS without ever holding anything up: what cannot be sent at once waits in a bounded queue that drops its
 * oldest entry and counts. A server that is slow, dead or absent changes nothing but that count.
 */
export class Broadcaster {
  dropped = 0;
  private readonly run: string;
  private readonly queue: { readonly subject: string; readonly text: string }[] = [];
  private connection: NatsConnection | null = null;
  private live = false;
  private closed = false;

  constructor(url: string, run: string) {
    this.run = run;
    void this.open(url);
  }

  get connected(): boolean {
    return this.live;
  }

  publishStep(entry: LedgerEntry, from: string, config: Config): void {
    const { recipe } = config;
    const images = entry.shards.reduce((sum, shard) => sum + shard.samples, 0);
    const correct = entry.shards.reduce((sum, shard) => sum + shard.correct, 0);
    const shards: Record<string, number[]> = {};
    for (const { shard, by } of entry.shards) {
      shards[by] ??= [];
      shards[by].push(shard);
    }
    const finite = (value: number) => (Number.isFinite(value) ? value : null);
    const message: StepMessage = {
      run: this.run,
      view: viewName(entry.view),
      step: entry.step,
      epoch: Math.floor(entry.step / recipe.stepsPerEpoch),
      from,
      loss: finite(entry.loss),
      accuracy: images === 0 ? 0 : correct / images,
      images,
      learningRate: recipe.learningRates[entry.step] ?? 0,
      gradientNorm: finite(entry.gradientNorm),
      applied: entry.applied,
      lineage: entry.lineage,
      shards,
    };
    this.publish(subjectOf(this.run, "step"), message);
  }

  publishEvent(event: EventMessage): void {
    this.publish(subjectOf(this.run, "event"), event);
  }

  async close(): Promise<void> {
    this.closed = true;
    this.flush();
    const drained = this.connection?.drain() ?? Promise.resolve();
    await Promise.race([drained, new Promise((resolve) => setTimeout(resolve, 300))]).catch(() => {});
  }

  private publish(subject: string, value: object): void {
    this.queue.push({ subject, text: JSON.stringify(value) });
    if (this.queue.length > MOST_QUEUED) {
      this.queue.shift();
      this.dropped += 1;
    }
    this.flush();
  }

  private flush(): void {
    if (this.connection === null || !this.live) return;
    for (const { subject, text } of this.queue.splice(0)) this.connection.publish(subject, text);
  }

  private async open(url: string): Promise<void> {
    while (!this.closed && this.connection === null) {
      try {
        this.connection = await connect({ servers: url, maxReconnectAttempts: -1, reconnectTimeWait: 500, timeout: 2000 });
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 1000).unref());
      }
    }
    if (this.connection === null) return;
    this.live = true;
    this.flush();
    for await (const status of this.connection.status()) {
      // While the connection is down nothing is handed to the client, whose own queue has no bound.
      if (status.type === "disconnect") this.live = false;
      if (status.type === "reconnect") {
        this.live = true;
        this.flush();
      }
    }
  }
}
