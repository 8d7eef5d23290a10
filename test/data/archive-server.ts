import { createHash, randomBytes } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { gzipSync } from "node:zlib";
import tar from "tar-stream";
import type { FileFacts } from "../../shared/data/stl10.ts";

const random = (bytes: number, seed: number) => {
  // A linear congruential generator: bytes that do not compress.
  const out = Buffer.alloc(bytes);
  for (let i = 0, state = seed; i < bytes; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    out[i] = state >>> 24;
  }
  return out;
};

/** A small archive in the order of the official one, and the facts of its labelled files. */
export async function smallArchive(order = ["test_X", "test_y", "train_X", "train_y"]) {
  const contents: Record<string, Buffer> = {
    "test_X.bin": random(400_000, 1),
    "test_y.bin": Buffer.alloc(50, 1),
    "train_X.bin": random(300_000, 2),
    "train_y.bin": Buffer.alloc(40, 2),
    "unlabeled_X.bin": randomBytes(24_000_000),
    "class_names.txt": Buffer.from("a\nb\n"),
    "fold_indices.txt": Buffer.from("0 1\n"),
  };
  const pack = tar.pack();
  const chunks: Buffer[] = [];
  const reading = (async () => {
    for await (const chunk of pack) chunks.push(chunk as Buffer);
  })();
  pack.entry({ name: "stl10_binary/", type: "directory" });
  const names = [...order.map((name) => `${name}.bin`), "unlabeled_X.bin", "class_names.txt", "fold_indices.txt"];
  for (const name of names) pack.entry({ name: `stl10_binary/${name}` }, contents[name]!);
  pack.finalize();
  await reading;
  const files: FileFacts[] = ["test_X.bin", "test_y.bin", "train_X.bin", "train_y.bin"].map((name) => ({
    name,
    bytes: contents[name]!.length,
    md5: createHash("md5").update(contents[name]!).digest("hex"),
  }));
  return { archive: gzipSync(Buffer.concat(chunks), { level: 0 }), files, contents };
}

export interface ServedRequest {
  readonly range: string | null;
  /** Bytes of the body that were handed to the socket. */
  sent: number;
  /** Settles when the response is done or its connection is gone. */
  readonly closed: Promise<void>;
}

/** A server on loopback that sends an archive in small pieces and remembers what it was asked for. */
export async function serve(options: {
  readonly archive: () => Buffer;
  readonly ranges?: boolean;
  readonly tag?: () => string;
  /** Cuts the connection of request number `index` after so many bytes; null sends all. */
  readonly cut?: (index: number) => number | null;
  /** Waited for before a cut behind byte `position` of the archive: what is under way when a connection ends is lost. */
  readonly beforeCut?: (position: number) => Promise<void>;
  readonly status?: (index: number) => number;
}) {
  const requests: ServedRequest[] = [];
  const answer = async (request: IncomingMessage, response: ServerResponse) => {
    const index = requests.length;
    const closed = new Promise<void>((resolve) => void response.on("close", resolve));
    const range = request.headers.range ?? null;
    const served: ServedRequest = { range, sent: 0, closed };
    requests.push(served);
    const status = options.status?.(index) ?? 200;
    if (status !== 200) {
      response.writeHead(status).end();
      return;
    }
    const archive = options.archive();
    const tag = options.tag?.() ?? '"one"';
    const from = Number(/bytes=(\d+)-/.exec(range ?? "")?.[1] ?? 0);
    const partial = options.ranges !== false && from > 0 && (request.headers["if-range"] ?? tag) === tag;
    const body = partial ? archive.subarray(from) : archive;
    response.writeHead(partial ? 206 : 200, {
      etag: tag,
      "content-length": body.length,
      ...(partial && { "content-range": `bytes ${from}-${archive.length - 1}/${archive.length}` }),
    });
    const end = options.cut?.(index) ?? body.length;
    for (let at = 0; at < end && !response.destroyed; at += 16384) {
      const piece = body.subarray(at, Math.min(end, at + 16384));
      served.sent += piece.length;
      // Handed to the system before the next one, so that a cut does not swallow what was written before it.
      await Promise.race([new Promise<void>((written) => void response.write(piece, () => written())), closed]);
    }
    if (end < body.length) {
      await options.beforeCut?.((partial ? from : 0) + end);
      response.destroy();
    } else response.end();
  };
  const server = createServer((request, response) => void answer(request, response));
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}/stl10_binary.tar.gz`,
    requests,
    close: () =>
      new Promise<void>((closed) => {
        server.closeAllConnections();
        server.close(() => closed());
      }),
  };
}
