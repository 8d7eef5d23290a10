import { readFileSync } from "node:fs";
import { sentenceOf } from "../shared/errors.ts";
import type { CoordinatorMessage, WorkerMessage } from "../shared/protocol/messages.ts";
import { type CoordinatorClient, coordinatorClient } from "../shared/rpc/clients.ts";
import { type Envelope, parseCoordinatorMessage, wireWorkerMessage } from "../shared/rpc/convert.ts";
import type { Trust } from "../shared/security/trust.ts";

export interface SessionOptions {
  /** host:port of the coordinator, or the path of an endpoints.json that is read again at every dial. */
  readonly coordinator: string;
  /** By which connections are secured; null: they are not. */
  readonly trust?: Trust | null;
  readonly redialFirst: number;
  readonly redialMax: number;
  /** Silence of the coordinator after which the stream is dropped and dialled again, in milliseconds. */
  readonly silence: number;
  /** The first message of every stream. */
  hello(): WorkerMessage;
  onMessage(message: CoordinatorMessage): void;
  onState(connected: boolean): void;
  /** What came cannot be read: the stream was dropped. `often`: so many times that dialling again will not help. */
  onMalformed(error: unknown, often: boolean): void;
}

type Stream = ReturnType<CoordinatorClient["session"]>;

/** Malformed messages in a worker's life after which it gives up: the coordinator is of another version. */
const MOST_MALFORMED = 10;

/** The worker's session with whoever coordinates: one stream, dialled again for as long as the worker lives. */
export class Session {
  private readonly options: SessionOptions;
  private client: CoordinatorClient | null = null;
  private stream: Stream | null = null;
  private timer: NodeJS.Timeout | null = null;
  private watchdog: NodeJS.Timeout | null = null;
  private pause: number;
  private lastHeard = 0;
  private malformed = 0;
  private closed = false;

  constructor(options: SessionOptions) {
    this.options = options;
    this.pause = options.redialFirst;
    this.dial();
    this.watchdog = setInterval(() => this.checkSilence(), 250);
  }

  /** Sends if there is a stream; what is lost with a stream is said again after the redial by the membership machine. */
  send(message: WorkerMessage): void {
    this.stream?.write(wireWorkerMessage(message));
  }

  /** The client of the present stream, for other calls to the same coordinator; null while nobody knows where that is. */
  get channel(): CoordinatorClient | null {
    return this.client;
  }

  close(): void {
    this.closed = true;
    if (this.timer !== null) clearTimeout(this.timer);
    if (this.watchdog !== null) clearInterval(this.watchdog);
    this.stream?.end();
    this.client?.close();
    this.client = null;
  }

  private dial(): void {
    if (this.closed) return;
    this.client?.close();
    // A call on a closed client throws.
    this.client = null;
    const address = addressOf(this.options.coordinator);
    if (address === null) return this.again();
    this.client = coordinatorClient(address, { trust: this.options.trust ?? null });
    const stream = this.client.session();
    this.stream = stream;
    this.lastHeard = performance.now();
    stream.on("data", (envelope: Envelope) => this.onData(stream, envelope));
    stream.on("error", () => this.onEnd(stream));
    stream.on("end", () => this.onEnd(stream));
    stream.write(wireWorkerMessage(this.options.hello()));
    this.options.onState(true);
  }

  private onData(stream: Stream, envelope: Envelope): void {
    if (stream !== this.stream) return;
    this.lastHeard = performance.now();
    let message: CoordinatorMessage;
    try {
      message = parseCoordinatorMessage(envelope);
    } catch (error) {
      return this.refuse(stream, error);
    }
    this.pause = this.options.redialFirst;
    this.options.onMessage(message);
  }

  /** The coordinator hears why; what it meant is said again after the redial. */
  private refuse(stream: Stream, error: unknown): void {
    this.malformed += 1;
    stream.write(wireWorkerMessage({ kind: "failed", code: "LS_MALFORMED", message: sentenceOf(error) }));
    stream.end();
    this.onEnd(stream);
    this.options.onMalformed(error, this.malformed >= MOST_MALFORMED);
  }

  private onEnd(stream: Stream): void {
    if (stream !== this.stream) return;
    this.stream = null;
    this.options.onState(false);
    this.again();
  }

  private again(): void {
    if (this.closed) return;
    this.timer = setTimeout(() => this.dial(), this.pause);
    this.pause = Math.min(this.options.redialMax, this.pause * 2);
  }

  private checkSilence(): void {
    if (this.stream === null || performance.now() - this.lastHeard < this.options.silence) return;
    const stream = this.stream;
    stream.cancel();
    this.onEnd(stream);
  }
}

/** Where the coordinator is now, null while it is not there. */
function addressOf(coordinator: string): string | null {
  if (!coordinator.endsWith(".json")) return coordinator;
  try {
    const { coordinator: address } = JSON.parse(readFileSync(coordinator, "utf8")) as { coordinator?: unknown };
    return typeof address === "string" ? address : null;
  } catch {
    return null;
  }
}
