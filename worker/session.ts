import { readFileSync } from "node:fs";
import type { CoordinatorMessage, WorkerMessage } from "../shared/protocol/messages.ts";
import { parseCoordinatorMessage, wireWorkerMessage } from "../shared/rpc/convert.ts";
import { CoordinatorClient, channelOptions, grpc } from "../shared/rpc/service.ts";

export interface SessionOptions {
  /** host:port of the coordinator, or the path of an endpoints.json that is read again at every dial. */
  readonly coordinator: string;
  readonly redialFirst: number;
  readonly redialMax: number;
  /** Silence of the coordinator after which the stream is dropped and dialled again, in milliseconds. */
  readonly silence: number;
  /** The first message of every stream. */
  hello(): WorkerMessage;
  onMessage(message: CoordinatorMessage): void;
  onState(connected: boolean): void;
}

type Stream = grpc.ClientDuplexStream<object, object>;

/** The worker's session with whoever coordinates: one stream, dialled again for as long as the worker lives. */
export class Session {
  private readonly options: SessionOptions;
  private client: grpc.Client | null = null;
  private stream: Stream | null = null;
  private timer: NodeJS.Timeout | null = null;
  private watchdog: NodeJS.Timeout | null = null;
  private pause: number;
  private lastHeard = 0;
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

  /** The client of the present stream, for other calls to the same coordinator. */
  get channel(): grpc.Client | null {
    return this.client;
  }

  close(): void {
    this.closed = true;
    if (this.timer !== null) clearTimeout(this.timer);
    if (this.watchdog !== null) clearInterval(this.watchdog);
    this.stream?.end();
    this.client?.close();
  }

  private dial(): void {
    if (this.closed) return;
    this.client?.close();
    const address = addressOf(this.options.coordinator);
    if (address === null) return this.again();
    this.client = new CoordinatorClient(address, grpc.credentials.createInsecure(), channelOptions());
    const stream = (this.client as unknown as { session(): Stream }).session();
    this.stream = stream;
    this.lastHeard = performance.now();
    stream.on("data", (envelope: object) => {
      if (stream !== this.stream) return;
      if (this.lastHeard > 0) this.pause = this.options.redialFirst;
      this.lastHeard = performance.now();
      this.options.onMessage(parseCoordinatorMessage(envelope as never));
    });
    stream.on("error", () => this.onEnd(stream));
    stream.on("end", () => this.onEnd(stream));
    stream.write(wireWorkerMessage(this.options.hello()));
    this.options.onState(true);
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
