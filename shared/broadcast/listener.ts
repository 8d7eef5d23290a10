import { connect, type NatsConnection, type Subscription } from "nats";
import { LockstepError, sentenceOf } from "../errors.ts";
import type { NatsAccess } from "../protocol/messages.ts";
import { natsOptions } from "./nats-file.ts";
import {
  type EpochMessage,
  type EventMessage,
  epochMessageSchema,
  eventMessageSchema,
  type StepMessage,
  stepMessageSchema,
  type WorkerMessage,
  workerMessageSchema,
} from "./schema.ts";
import { parseSubject, subjectsOf } from "./subjects.ts";

/** What a listener hears. */
export type News =
  | { readonly kind: "step"; readonly message: StepMessage }
  | { readonly kind: "epoch"; readonly message: EpochMessage }
  | { readonly kind: "event"; readonly message: EventMessage }
  | { readonly kind: "worker"; readonly message: WorkerMessage };

/** Keys that are remembered to recognise repeats; the copies of one step come within seconds. */
const REMEMBERED = 4096;

/** Recognises the copies of a step or an epoch that other members published. */
export class Repeats {
  readonly #known = new Set<string>();

  /** True the first time. */
  isNew(news: News): boolean {
    if (news.kind === "event" || news.kind === "worker") return true;
    const { run, view, step } = news.message;
    const key = `${news.kind} ${run} ${view} ${step}`;
    if (this.#known.has(key)) return false;
    this.#known.add(key);
    if (this.#known.size > REMEMBERED) this.#known.delete(this.#known.values().next().value!);
    return true;
  }
}

const schemas = {
  step: stepMessageSchema,
  epoch: epochMessageSchema,
  event: eventMessageSchema,
  worker: workerMessageSchema,
};

/** Parses one message; null for what is not of this version. */
export function parseNews(subject: string, data: Uint8Array): News | null {
  const about = parseSubject(subject);
  if (about === null) return null;
  try {
    const { kind } = about;
    return { kind, message: schemas[kind].parse(JSON.parse(Buffer.from(data).toString("utf8"))) } as News;
  } catch {
    return null;
  }
}

export interface ListenOptions {
  /** nats://host:port or tls://host:port */
  readonly url: string;
  /** Where the server wants to know who listens. */
  readonly access?: NatsAccess | null;
  /** null: all runs of this server. */
  readonly run: string | null;
  readonly signal: AbortSignal;
  /** Repeats as well. */
  readonly everyCopy?: boolean;
  readonly onSubscribed?: () => void;
}

/**
 * What is broadcast about runs, each step and epoch once, until the signal ends it. A connection that breaks comes back.
 * @throws LockstepError LS_NATS_UNREACHABLE where no server answers at first
 */
export async function* listen({
  url,
  access = null,
  run,
  signal,
  everyCopy = false,
  onSubscribed,
}: ListenOptions): AsyncGenerator<News> {
  const connection = await dial(url, access);
  const subscription: Subscription = connection.subscribe(subjectsOf(run));
  const end = () => void connection.close().catch(() => {});
  signal.addEventListener("abort", end);
  if (signal.aborted) end();
  const repeats = new Repeats();
  try {
    await connection.flush();
    onSubscribed?.();
    for await (const { subject, data } of subscription) {
      const news = parseNews(subject, data);
      if (news !== null && (everyCopy || repeats.isNew(news))) yield news;
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    signal.removeEventListener("abort", end);
    await connection.close().catch(() => {});
  }
}

async function dial(url: string, access: NatsAccess | null): Promise<NatsConnection> {
  try {
    return await connect({
      servers: url,
      ...natsOptions(access),
      name: "lockstep watch",
      maxReconnectAttempts: -1,
      timeout: 3000,
      ignoreClusterUpdates: true,
    });
  } catch (cause) {
    throw new LockstepError("LS_NATS_UNREACHABLE", `No NATS server answers at ${url}: ${sentenceOf(cause)}.`, {
      hint: "See the run's endpoints.json for its address; the server of a finished run has ended.",
      cause,
    });
  }
}
