import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { connect, createServer, type Server, type Socket } from "node:net";

const PIECE = Buffer.alloc(1 << 20, 1);

/** The bytes of an exchange over bare TCP connections, one to each peer and back: what the links carry here at best. */
export class RawTransfer {
  #server: Server | null = null;
  readonly #sockets: Socket[] = [];
  readonly #outgoing: Socket[] = [];
  #incoming = 0;
  #received = 0;
  #onBytes: () => void = () => {};

  /** @returns the port that peers dial */
  async listen(host: string): Promise<number> {
    const server = createServer((socket) => {
      this.#sockets.push(socket);
      this.#incoming += 1;
      socket.on("data", (bytes) => {
        this.#received += bytes.length;
        this.#onBytes();
      });
      socket.on("error", () => {});
      this.#onBytes();
    });
    this.#server = server;
    server.listen(0, host);
    await once(server, "listening");
    return (server.address() as AddressInfo).port;
  }

  async connect(peers: readonly { readonly host: string; readonly port: number }[]): Promise<void> {
    for (const { host, port } of peers) {
      const socket = connect({ host, port, noDelay: true });
      socket.on("error", () => {});
      await once(socket, "connect");
      this.#outgoing.push(socket);
    }
    await this.#until(() => this.#incoming === peers.length);
  }

  close(): void {
    this.#server?.close();
    for (const socket of [...this.#sockets, ...this.#outgoing]) socket.destroy();
  }

  /** Sends so many bytes to every peer and gets as many from each; milliseconds from the moment in which all are ready. */
  async run(bytesToPeer: number): Promise<number> {
    const peers = this.#outgoing.length;
    for (const socket of this.#outgoing) socket.write(PIECE.subarray(0, 1));
    await this.#until(() => this.#received >= peers);
    const started = performance.now();
    await Promise.all([
      ...this.#outgoing.map((socket) => send(socket, bytesToPeer)),
      this.#until(() => this.#received >= peers * (1 + bytesToPeer)),
    ]);
    this.#received -= peers * (1 + bytesToPeer);
    return performance.now() - started;
  }

  #until(holds: () => boolean): Promise<void> {
    if (holds()) return Promise.resolve();
    return new Promise((resolve) => {
      this.#onBytes = () => {
        if (holds()) resolve();
      };
    });
  }
}

async function send(socket: Socket, bytes: number): Promise<void> {
  for (let left = bytes; left > 0; left -= PIECE.length)
    if (!socket.write(PIECE.subarray(0, Math.min(left, PIECE.length)))) await once(socket, "drain");
}
