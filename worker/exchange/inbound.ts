import type { Incarnation, View, ViewId } from "../../shared/protocol/view.ts";
import { channelOptions, grpc, MemberClient } from "../../shared/rpc/service.ts";

/** Window of each inbound stream: at most 16 MiB, and a bounded sum over many peers. */
const WINDOW_BUDGET = 128 << 20;
const windowFor = (members: number) => Math.min(16 << 20, Math.floor(WINDOW_BUDGET / Math.max(1, members)));

export interface InboundOptions {
  readonly run: string;
  readonly view: View;
  readonly self: Incarnation;
  readonly peer: { readonly incarnation: Incarnation; readonly address: string };
  readonly redialFirst: number;
  readonly redialMax: number;
  onChunk(buffer: Buffer): void;
  /** The stream ended although the view lives; `refused` when no process listens any more. */
  onLost(refused: boolean): void;
}

/** The call that we keep open to one peer for the life of a view: down it comes what the peer has for us. */
export class Inbound {
  private readonly options: InboundOptions;
  private client: grpc.Client | null = null;
  private call: grpc.ClientReadableStream<Buffer> | null = null;
  private timer: NodeJS.Timeout | null = null;
  private closed = false;
  private pause: number;
  private reported: "nothing" | "lost" | "refused" = "nothing";

  constructor(options: InboundOptions) {
    this.options = options;
    this.pause = options.redialFirst;
    this.dial();
  }

  close(): void {
    this.closed = true;
    if (this.timer !== null) clearTimeout(this.timer);
    this.call?.cancel();
    this.client?.close();
  }

  /** Drops the stream, for example after a malformed chunk, and opens it again. */
  restart(): void {
    this.call?.cancel();
  }

  private dial(): void {
    const { run, view, self, peer } = this.options;
    this.client?.close();
    this.client = new MemberClient(peer.address, grpc.credentials.createInsecure(), channelOptions(windowFor(view.members.length)));
    const request = { run, view: view.id, from: self };
    const open = (this.client as unknown as { exchange(request: object): grpc.ClientReadableStream<Buffer> }).exchange(request);
    this.call = open;
    open.on("data", (buffer: Buffer) => {
      this.pause = this.options.redialFirst;
      this.reported = "nothing";
      this.options.onChunk(buffer);
    });
    open.on("error", (error: grpc.ServiceError) => this.onEnd(open, /ECONNREFUSED/.test(error.details ?? "")));
    open.on("end", () => this.onEnd(open, false));
  }

  private onEnd(call: grpc.ClientReadableStream<Buffer>, refused: boolean): void {
    if (this.closed || call !== this.call) return;
    this.call = null;
    const state = refused ? "refused" : "lost";
    if (this.reported !== state && this.reported !== "refused") {
      this.reported = state;
      this.options.onLost(refused);
    }
    this.timer = setTimeout(() => this.dial(), this.pause);
    this.pause = Math.min(this.options.redialMax, this.pause * 2);
  }
}

export const viewKey = (id: ViewId): string => `${id.term}.${id.number}`;
