import type { Incarnation, View } from "../../shared/protocol/view.ts";
import { type MemberClient, memberClient } from "../../shared/rpc/clients.ts";
import { grpc } from "../../shared/rpc/service.ts";
import type { Trust } from "../../shared/security/trust.ts";

/** Window of each inbound stream: at most 16 MiB, and a bounded sum over many peers. */
const WINDOW_BUDGET = 128 << 20;
const MOST_WINDOW = 16 << 20;
export const windowFor = (streams: number): number =>
  Math.min(MOST_WINDOW, Math.floor(WINDOW_BUDGET / Math.max(1, streams)));

/** How a stream ended, as far as it concerns the view. */
type Ending =
  /** The peer has left the view: nothing more will come. */
  | "left"
  /** The stream is gone; the peer may live. */
  | "lost"
  /** Nothing listens there, or another process: the peer is gone. */
  | "refused"
  /** The peer lives and does not serve us now: it does not know the view yet, or has no room. */
  | "later";

const LATER = [grpc.status.FAILED_PRECONDITION, grpc.status.NOT_FOUND, grpc.status.RESOURCE_EXHAUSTED];

/** The status with which a server says that it is not the incarnation that was called. */
export const WRONG_INCARNATION = grpc.status.PERMISSION_DENIED;

function endingOf({ code, details }: Pick<grpc.StatusObject, "code" | "details">): Ending {
  if (code === grpc.status.OK) return "left";
  if (code === WRONG_INCARNATION || /ECONNREFUSED/.test(details)) return "refused";
  return LATER.includes(code) ? "later" : "lost";
}

export interface InboundOptions {
  readonly run: string;
  readonly view: View;
  readonly self: Incarnation;
  readonly peer: { readonly incarnation: Incarnation; readonly address: string };
  /** By which connections are secured; null: they are not. */
  readonly trust?: Trust | null;
  /** First and longest pause between redials, in milliseconds. */
  readonly redialFirst: number;
  readonly redialMax: number;
  /** `wait`: the chunk cannot be taken now; it is offered again after `resume`, and the stream stands still until then. */
  onChunk(buffer: Buffer): "done" | "wait";
  /** The stream ended although the view lives; `refused` when the peer's process is gone. */
  onLost(refused: boolean): void;
}

/** The call that we keep open to one peer for the life of a view: down it comes what the peer has for us. */
export class Inbound {
  private readonly options: InboundOptions;
  private client: MemberClient | null = null;
  private call: grpc.ClientReadableStream<Buffer> | null = null;
  private timer: NodeJS.Timeout | null = null;
  private closed = false;
  private pause: number;
  private reported: "nothing" | "lost" | "refused" = "nothing";
  /** Chunks that could not be taken yet; no more than what the stream had already taken out. */
  private waiting: Buffer[] = [];

  constructor(options: InboundOptions) {
    this.options = options;
    this.pause = options.redialFirst;
    this.dial();
  }

  close(): void {
    this.closed = true;
    if (this.timer !== null) clearTimeout(this.timer);
    this.hangUp();
  }

  /** Drops the stream, for example after a malformed chunk, and opens it again: the peer sends everything again. */
  restart(): void {
    if (this.closed || this.call === null) return;
    this.hangUp();
    this.redial();
  }

  /** Offers again what had to wait. */
  resume(): void {
    const { call, waiting } = this;
    if (waiting.length === 0 || call === null) return;
    this.waiting = [];
    call.resume();
    for (const buffer of waiting) this.onData(call, buffer);
  }

  private dial(): void {
    const { run, view, self, peer, trust = null } = this.options;
    // A pool of its own: streams of different views must not share one connection, whose window one of them could block.
    const { incarnation } = peer;
    const window = windowFor(view.members.length);
    this.client = memberClient(peer.address, { window, ownConnection: true, trust, incarnation });
    const call = this.client.exchange({ run, view: view.id, from: self, to: peer.incarnation });
    this.call = call;
    call.on("data", (buffer: Buffer) => this.onData(call, buffer));
    call.on("error", () => {}); // The status says it all.
    call.on("status", (status: grpc.StatusObject) => this.onStatus(call, status));
  }

  private onData(call: grpc.ClientReadableStream<Buffer>, buffer: Buffer): void {
    if (call !== this.call) return;
    this.pause = this.options.redialFirst;
    this.reported = "nothing";
    if (this.waiting.length === 0 && this.options.onChunk(buffer) === "done") return;
    if (call !== this.call) return;
    this.waiting.push(buffer);
    call.pause();
  }

  private onStatus(call: grpc.ClientReadableStream<Buffer>, status: grpc.StatusObject): void {
    if (this.closed || call !== this.call) return;
    const ending = endingOf(status);
    this.hangUp();
    if (ending === "left") return;
    if (ending !== "later" && this.reported !== "refused" && this.reported !== ending) {
      this.reported = ending;
      this.options.onLost(ending === "refused");
    }
    if (!this.closed) this.redial();
  }

  private hangUp(): void {
    const { call, client } = this;
    this.call = null;
    this.client = null;
    this.waiting = [];
    call?.cancel();
    client?.close();
  }

  private redial(): void {
    this.timer = setTimeout(() => this.dial(), this.pause);
    this.pause = Math.min(this.options.redialMax, this.pause * 2);
  }
}
