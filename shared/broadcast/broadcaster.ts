import { connect, type NatsConnection, usernamePasswordAuthenticator } from "nats";
import type { Config } from "../config/schema.ts";
import type { NatsAccess, Progress } from "../protocol/messages.ts";
import type { LedgerEntry } from "../protocol/trailer.ts";
import { BoundedQueue, type QueueBounds } from "./bounded-queue.ts";
import { EpochSum, stepMessage, workerMessage } from "./messages.ts";
import type { EventMessage } from "./schema.ts";
import { subjectOf, workerSubjectOf } from "./subjects.ts";

/** What waits here while NATS is slow or away. */
const QUEUE: QueueBounds = { messages: 1000, bytes: 8 << 20 };
/** What is handed to the client at once; the next batch waits until the server has answered for it. */
const BATCH: QueueBounds = { messages: 200, bytes: 1 << 20 };
const REDIAL_MILLIS = 500;
const CLOSE_MILLIS = 300;

/**
 * Publishes on NATS without ever holding anything up. What cannot be sent at once waits in a bounded queue that drops its
 * oldest entry and counts. The client's own queue and the socket's buffer have no bound: they get one batch at a time, and
 * the next one only after the server has answered a ping behind it. A server that is slow, frozen, dead or absent changes
 * nothing but the count.
 */
export class Broadcaster {
  readonly #run: string;
  readonly #queue: BoundedQueue;
  readonly #abandoned = new AbortController();
  #epochs: EpochSum | null = null;
  #connection: NatsConnection | null = null;
  #live = false;
  #sending = false;
  #givenUp = 0;
  #access: NatsAccess | null;

  /**
   * @param url of the server, nats://host:port or tls://host:port
   * @param access where the server wants to know who publishes
   */
  constructor(url: string, run: string, bounds: QueueBounds = QUEUE, access: NatsAccess | null = null) {
    this.#run = run;
    this.#queue = new BoundedQueue(bounds);
    this.#access = access;
    void this.#open(url);
  }

  /** From the next connection on it shows itself so. */
  renew(access: NatsAccess): void {
    this.#access = access;
  }

  get connected(): boolean {
    return this.#live;
  }

  /** Messages that the server has not taken: it was slow or away, it broke off, or they exceed its limit. */
  get dropped(): number {
    return this.#queue.dropped + this.#givenUp;
  }

  /** Messages that wait here. */
  get queued(): number {
    return this.#queue.length;
  }

  /** A final step; with the last one of an epoch the epoch as well. `from`: incarnation of this worker. */
  publishStep(entry: LedgerEntry, from: string, config: Config): void {
    const message = stepMessage(entry, from, config);
    this.#publish(subjectOf(this.#run, "step"), message);
    this.#epochs ??= new EpochSum(config.recipe.stepsPerEpoch);
    const epoch = this.#epochs.add(message);
    if (epoch !== null) this.#publish(subjectOf(this.#run, "epoch"), epoch);
  }

  publishEvent(event: EventMessage): void {
    this.#publish(subjectOf(this.#run, "event"), event);
  }

  publishWorker(name: string, incarnation: string, progress: Progress): void {
    this.#publish(workerSubjectOf(this.#run, name), workerMessage(this.#run, name, incarnation, progress, new Date()));
  }

  /** Sends what it can in a moment, then lets go. */
  async close(): Promise<void> {
    this.#abandoned.abort();
    const connection = this.#connection;
    if (connection === null) return;
    const drained = this.#live ? this.#rest(connection).catch(() => {}) : Promise.resolve();
    await Promise.race([drained, sleep(CLOSE_MILLIS)]);
    this.#live = false;
    await Promise.race([connection.close().catch(() => {}), sleep(CLOSE_MILLIS)]);
  }

  #publish(subject: string, value: object): void {
    if (this.#abandoned.signal.aborted) return;
    this.#queue.push({ subject, data: Buffer.from(JSON.stringify(value)) });
    void this.#send();
  }

  async #send(): Promise<void> {
    if (this.#sending) return;
    this.#sending = true;
    try {
      while (this.#live && this.#connection !== null && this.#queue.length > 0) await this.#batch(this.#connection);
    } catch {
      // The connection broke under the batch; the status loop says when it is back.
    }
    this.#sending = false;
  }

  async #batch(connection: NatsConnection): Promise<void> {
    const most = connection.info?.max_payload ?? BATCH.bytes;
    const batch = this.#queue.take(BATCH);
    const fitting = batch.filter(({ data }) => data.length <= most);
    this.#givenUp += batch.length - fitting.length;
    try {
      for (const { subject, data } of fitting) connection.publish(subject, data);
      await connection.flush();
    } catch (error) {
      // Some of it may have arrived; sending it again would repeat events, which carry no key.
      this.#givenUp += fitting.length;
      throw error;
    }
  }

  async #rest(connection: NatsConnection): Promise<void> {
    while (this.#queue.length > 0) await this.#batch(connection);
    await connection.flush();
  }

  async #open(url: string): Promise<void> {
    const connection = await dial(url, () => this.#access, this.#abandoned.signal);
    if (connection === null) return;
    this.#connection = connection;
    this.#live = true;
    void this.#send();
    for await (const { type } of connection.status()) {
      // While the connection is down nothing is handed to the client, which would keep all of it.
      if (type === "disconnect") this.#live = false;
      if (type === "reconnect") {
        this.#live = true;
        void this.#send();
      }
    }
  }
}

/** Dials until the server is there; null once it is not wanted any more. */
async function dial(
  url: string,
  access: () => NatsAccess | null,
  abandoned: AbortSignal,
): Promise<NatsConnection | null> {
  while (!abandoned.aborted) {
    try {
      const connection = await connect({
        servers: url,
        ...credentialsOf(access),
        name: "lockstep",
        maxReconnectAttempts: -1,
        reconnectTimeWait: REDIAL_MILLIS,
        timeout: 2000,
        // A frozen server is noticed and left after two of these.
        pingInterval: 5000,
        maxPingOut: 2,
        ignoreClusterUpdates: true,
      });
      if (!abandoned.aborted) return connection;
      await connection.close();
      return null;
    } catch {
      await sleep(REDIAL_MILLIS);
    }
  }
  return null;
}

/** Asked for at every connection: the password may be another one by then. */
const credentialsOf = (access: () => NatsAccess | null) => {
  const first = access();
  if (first === null) return {};
  const now = () => access() ?? first;
  const authenticator = usernamePasswordAuthenticator(
    () => now().user,
    () => now().password,
  );
  // A server that has read the next password before we have heard it is dialled until we have.
  return { authenticator, tls: { ca: first.authority }, ignoreAuthErrorAbort: true };
};

const sleep = (millis: number) => new Promise<void>((resolve) => void setTimeout(resolve, millis).unref());
