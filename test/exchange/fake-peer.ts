import { connect, createServer, type Server, type Socket } from "node:net";
import { BLOCK, type Layout } from "../../shared/model/layout.ts";
import { type Incarnation, type ViewId, viewName } from "../../shared/protocol/view.ts";
import { bindingOf, grpc, listen, memberService } from "../../shared/rpc/service.ts";
import type { Arithmetic } from "../../worker/arithmetic/arithmetic.ts";
import { type ChunkHeader, layOutChunk, MAX_CHUNK_BYTES } from "../../worker/exchange/chunk.ts";

type Call = grpc.ServerWritableStream<{ view: ViewId; from: string; to: string }, Buffer>;

/** A member that sends exactly what a test tells it to. */
export class FakePeer {
  readonly self: Incarnation;
  address = "";
  /** Calls that have come, by view. */
  readonly calls: Call[] = [];
  private readonly server = new grpc.Server();
  private readonly callers: ((call: Call) => void)[] = [];

  constructor(self: Incarnation) {
    this.self = self;
  }

  async start(): Promise<void> {
    this.server.addService(memberService, {
      exchange: (call: Call) => {
        this.calls.push(call);
        for (const caller of this.callers.splice(0)) caller(call);
      },
      pullState: () => {},
      pullEntries: () => {},
    });
    this.address = await listen(this.server, bindingOf("127.0.0.1"));
  }

  /** The newest call for a view; waits for the first one, or for one after `known` of them. */
  async call(view: ViewId, known = 0): Promise<Call> {
    for (;;) {
      const found = this.calls.filter((call) => viewName(call.request.view) === viewName(view));
      if (found.length > known) return found.at(-1)!;
      await new Promise<Call>((resolve) => this.callers.push(resolve));
    }
  }

  async send(view: ViewId, buffer: Buffer): Promise<void> {
    const call = await this.call(view);
    await new Promise<void>((resolve) => call.write(buffer, () => resolve()));
  }

  stop(): void {
    this.server.forceShutdown();
  }
}

/** A chunk of float32 blocks cut from a vector, with the hashes of what it holds. */
export function chunkFrom(
  vector: Float32Array,
  header: Pick<ChunkHeader, "kind" | "view" | "step" | "firstBlock" | "blocks"> & Partial<ChunkHeader>,
  arithmetic: Arithmetic,
  scratch: number,
): Buffer {
  const full = { wire: "float32", nodeFrom: 0, nodeTo: 0, ...header } as const;
  const { buffer, hashes, payload } = layOutChunk(Buffer.alloc(MAX_CHUNK_BYTES), full);
  const floats = vector.subarray(full.firstBlock * BLOCK, (full.firstBlock + full.blocks) * BLOCK);
  payload.set(new Uint8Array(floats.buffer, floats.byteOffset, payload.length));
  for (let block = 0; block < full.blocks; block++) {
    new Uint8Array(arithmetic.memory.buffer).set(payload.subarray(block * BLOCK * 4, (block + 1) * BLOCK * 4), scratch);
    hashes.writeBigUInt64LE(arithmetic.xxh64(scratch, BLOCK * 4), block * 8);
  }
  return buffer;
}

export const blocksOf = (layout: Layout): number => layout.vectorFloats / BLOCK;

/** A wire on loopback that can be cut: forwards to a target, and destroys its connections after so many bytes. */
export class CuttableWire {
  address = "";
  cuts = 0;
  private readonly target: string;
  private server: Server | null = null;
  private readonly sockets = new Set<Socket>();
  private left = Number.POSITIVE_INFINITY;

  constructor(target: string) {
    this.target = target;
  }

  async start(): Promise<void> {
    const [host, port] = this.target.split(":");
    const server = createServer((near) => {
      const far = connect(Number(port), host);
      for (const socket of [near, far]) {
        this.sockets.add(socket);
        socket.on("error", () => {});
        socket.on("close", () => this.sockets.delete(socket));
      }
      near.on("close", () => far.destroy());
      far.on("close", () => near.destroy());
      near.pipe(far);
      far.on("data", (data) => {
        this.left -= data.length;
        if (this.left < 0) return this.cut();
        if (!near.write(data)) far.pause();
      });
      near.on("drain", () => far.resume());
    });
    this.server = server;
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const bound = server.address();
    this.address = `127.0.0.1:${typeof bound === "object" && bound !== null ? bound.port : 0}`;
  }

  /** Cuts once, when this many more bytes have come from the target. */
  cutAfter(bytes: number): void {
    this.left = bytes;
  }

  stop(): void {
    this.server?.close();
    for (const socket of this.sockets) socket.destroy();
  }

  private cut(): void {
    this.left = Number.POSITIVE_INFINITY;
    this.cuts += 1;
    for (const socket of this.sockets) socket.destroy();
  }
}
