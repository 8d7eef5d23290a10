import { type ChildProcess, spawn } from "node:child_process";
import { createServer, connect as dial, type Socket } from "node:net";
import { natsProgram } from "../../deploy/up/nats-program.ts";
import type { Config } from "../../shared/config/schema.ts";
import type { LedgerEntry } from "../../shared/protocol/trailer.ts";
import type { Incarnation } from "../../shared/protocol/view.ts";

/** The real nats-server; null where there is none, and then tests skip. */
export const program = natsProgram();
export const needsNats = program === null ? "nats-server is not installed (npx lockstep setup)" : "";

/** A port that nobody listens on at the moment. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

export interface TestServer {
  readonly port: number;
  readonly url: string;
  signal(signal: NodeJS.Signals): void;
  stop(): Promise<void>;
}

export async function startServer(port: number): Promise<TestServer> {
  const child: ChildProcess = spawn(program!, ["-a", "127.0.0.1", "-p", String(port)], { stdio: "ignore" });
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  await until(async () => {
    const socket = await dialled(port).catch(() => null);
    socket?.destroy();
    return socket !== null;
  });
  return {
    port,
    url: `nats://127.0.0.1:${port}`,
    signal: (signal) => void child.kill(signal),
    stop: async () => {
      child.kill("SIGCONT");
      child.kill("SIGKILL");
      await ended;
    },
  };
}

function dialled(port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = dial(port, "127.0.0.1", () => resolve(socket));
    socket.once("error", reject);
  });
}

/** Waits for a condition; the test's own time limit is the bound. */
export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 10));
}

/** A subscriber that shares no code with ours: the text protocol of NATS over a socket. */
export class PlainClient {
  readonly messages: { readonly subject: string; readonly text: string }[] = [];
  readonly #socket: Socket;
  #rest = Buffer.alloc(0);
  #pongs = 0;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("error", () => {});
    socket.on("data", (data) => this.#onData(data));
  }

  static async subscribe(port: number, subject: string): Promise<PlainClient> {
    const client = new PlainClient(await dialled(port));
    client.#socket.write(`CONNECT {"verbose":false,"pedantic":false,"name":"plain"}\r\nSUB ${subject} 1\r\nPING\r\n`);
    await until(() => client.#pongs > 0);
    return client;
  }

  close(): void {
    this.#socket.destroy();
  }

  #onData(data: Buffer): void {
    this.#rest = Buffer.concat([this.#rest, data]);
    for (let end = this.#rest.indexOf("\r\n"); end >= 0; end = this.#rest.indexOf("\r\n")) {
      const words = this.#rest.toString("utf8", 0, end).split(" ");
      let next = end + 2;
      if (words[0] === "MSG") {
        const size = Number(words.at(-1));
        if (this.#rest.length < next + size + 2) return;
        this.messages.push({ subject: words[1]!, text: this.#rest.toString("utf8", next, next + size) });
        next += size + 2;
      } else if (words[0] === "PING") this.#socket.write("PONG\r\n");
      else if (words[0] === "PONG") this.#pongs += 1;
      this.#rest = this.#rest.subarray(next);
    }
  }
}

/** As much of a config as messages are made from. */
export const configOf = (runId: string, stepsPerEpoch = 2): Config =>
  ({
    runId,
    recipe: { stepsPerEpoch, learningRates: Array.from({ length: 10 }, (_, i) => i / 8) },
  }) as unknown as Config;

const [a, b] = ["aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb"] as Incarnation[];

export const entryOf = (step: number, change: Partial<LedgerEntry> = {}): LedgerEntry => ({
  step,
  view: { term: 1, number: 2 },
  lineage: "11".repeat(32),
  stateHash: "22".repeat(8),
  shards: [0, 1, 2, 3].map((shard) => ({
    shard,
    idsDigest: "33".repeat(8),
    samples: 8,
    correct: shard,
    gradientDigest: "44".repeat(8),
    by: (shard < 3 ? a : b)!,
  })),
  loss: 0.5,
  gradientNorm: 2,
  applied: true,
  ...change,
});
