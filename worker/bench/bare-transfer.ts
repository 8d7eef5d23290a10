import type { MemberClient } from "../../shared/rpc/clients.ts";
import { memberClient } from "../../shared/rpc/clients.ts";
import { bindingOf, channelOptions, grpc, listen, memberService } from "../../shared/rpc/service.ts";
import { MAX_CHUNK_BYTES } from "../exchange/chunk.ts";
import { windowFor } from "../exchange/inbound.ts";

type Stream = grpc.ServerWritableStream<{ readonly from: string }, Buffer>;

/** Messages that a stream holds at a time, as the exchange does. */
const IN_FLIGHT = 2;

/**
 * The bytes of an all-reduce between the same processes through the same gRPC, and nothing else: no sums, no hashes, no
 * copies to where they belong. What the exchange could reach at best.
 */
export class BareTransfer {
  readonly #server = new grpc.Server(channelOptions());
  readonly #self: string;
  readonly #payload = Buffer.alloc(MAX_CHUNK_BYTES);
  readonly #streams = new Map<string, Stream>();
  readonly #clients: MemberClient[] = [];
  #peers = 0;
  #ready = 0;
  #received = 0;
  #onMessage: () => void = () => {};

  constructor(self: string) {
    this.#self = self;
  }

  async start(): Promise<string> {
    this.#server.addService(memberService, {
      exchange: (call: Stream) => {
        this.#streams.set(call.request.from, call);
        this.#onMessage();
      },
    });
    return listen(this.#server, bindingOf("127.0.0.1"));
  }

  connect(peers: readonly string[]): void {
    this.#peers = peers.length;
    for (const address of peers) {
      const client = memberClient(address, { window: windowFor(peers.length + 1), ownConnection: true });
      this.#clients.push(client);
      const call = client.exchange({ run: "bench", view: { term: 1, number: 1 }, from: this.#self, to: address });
      call.on("data", (message: Buffer) => {
        if (message.length === 1) this.#ready += 1;
        else this.#received += message.length;
        this.#onMessage();
      });
      call.on("error", () => {});
    }
  }

  /** Sends so many bytes to every peer and gets as many from each; milliseconds from the moment in which all are ready. */
  run(bytesToPeer: number): Promise<number> {
    return new Promise((resolve) => {
      let started: number | null = null;
      let told = false;
      this.#onMessage = () => {
        if (!told && this.#streams.size === this.#peers) {
          told = true;
          for (const stream of this.#streams.values()) stream.write(Buffer.alloc(1));
        }
        if (started === null && this.#ready === this.#peers) {
          started = performance.now();
          for (const stream of this.#streams.values()) this.#send(stream, bytesToPeer);
        }
        if (started === null || this.#received < bytesToPeer * this.#peers) return;
        this.#onMessage = () => {};
        this.#ready -= this.#peers;
        this.#received -= bytesToPeer * this.#peers;
        resolve(performance.now() - started);
      };
      this.#onMessage();
    });
  }

  #send(stream: Stream, bytes: number): void {
    let left = bytes;
    let inFlight = 0;
    const pump = () => {
      while (inFlight < IN_FLIGHT && left > 0) {
        const size = Math.min(left, this.#payload.length);
        left -= size;
        inFlight += 1;
        stream.write(this.#payload.subarray(0, size), () => {
          inFlight -= 1;
          pump();
        });
      }
    };
    pump();
  }
}
