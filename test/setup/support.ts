import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { crc32 } from "node:zlib";
import { onTestFinished } from "vitest";
import { onPath } from "../../deploy/up/nats-program.ts";
import { temporary } from "../temporary.ts";

/** The package itself; tests run from its sources. */
export const ROOT = fileURLToPath(new URL("../..", import.meta.url));

export const sha256 = (content: Buffer): string => createHash("sha256").update(content).digest("hex");

/** A folder that goes with the tests of a file. */
export const temporaryFolder = (): string => temporary("setup");

export function writeTree(folder: string, files: Record<string, string | Buffer>): void {
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), content);
  }
}

export { onPath as programOnPath } from "../../deploy/up/nats-program.ts";

/** Why tests that write or read archives skip, as a part of their names; "" where they run. */
export const noArchives = ["tar", "gzip"].every((name) => onPath(name) !== null)
  ? ""
  : " (skipped: no tar or gzip on PATH)";

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A process whose output is kept; it does not outlive the test. */
export function start(
  command: string,
  args: readonly string[],
  options: { cwd?: string; env?: NodeJS.ProcessEnv } = {},
) {
  const child: ChildProcess = spawn(command, args, { ...options, stdio: ["ignore", "pipe", "pipe"] });
  onTestFinished(() => void child.kill("SIGKILL"));
  const output = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    child[name]!.setEncoding("utf8").on("data", (text: string) => {
      output[name] += text;
    });
  }
  const ended = new Promise<Ended>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => resolve({ code, signal, ...output }));
  });
  return { child, output, ended };
}

export interface Asked {
  readonly path: string;
  readonly range: string | null;
  readonly authorization: string | null;
}

export interface Serving {
  /** Content by path. */
  readonly files: Record<string, Buffer>;
  readonly ranges?: boolean;
  readonly type?: string;
  /** Bytes of the answer to request `index` after which the connection breaks; null sends all. */
  readonly cut?: (index: number) => number | null;
  readonly status?: (index: number) => number;
  /** Awaited before the last byte of an answer goes out. */
  readonly hold?: (index: number) => Promise<void>;
}

/** A file server on loopback that remembers what it was asked for. */
export async function serve(serving: Serving) {
  const asked: Asked[] = [];
  const answer = async (request: IncomingMessage, response: ServerResponse) => {
    const index = asked.length;
    const { range = null, authorization = null } = request.headers;
    const path = new URL(request.url ?? "/", "http://host").pathname;
    asked.push({ path, range, authorization });
    const content = serving.files[path];
    const status = serving.status?.(index) ?? (content === undefined ? 404 : 200);
    if (status !== 200 || content === undefined) return void response.writeHead(status).end();
    const from = serving.ranges === false ? 0 : Number(/bytes=(\d+)-/.exec(range ?? "")?.[1] ?? 0);
    if (from > content.length) return void response.writeHead(416).end();
    const body = content.subarray(from);
    response.writeHead(from > 0 ? 206 : 200, {
      "content-length": body.length,
      ...(serving.type !== undefined && { "content-type": serving.type }),
      ...(from > 0 && { "content-range": `bytes ${from}-${content.length - 1}/${content.length}` }),
    });
    const end = serving.cut?.(index) ?? body.length;
    const held = end === body.length ? Math.max(0, end - 1) : end;
    await new Promise<void>((written) => void response.write(body.subarray(0, held), () => written()));
    await serving.hold?.(index);
    if (end < body.length) response.destroy();
    else response.end(body.subarray(held));
  };
  const server = createServer((request, response) => void answer(request, response));
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  onTestFinished(async () => {
    server.closeAllConnections();
    await new Promise((closed) => server.close(closed));
  });
  return { origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, asked };
}

/** An address on loopback where nobody listens: a port that was free a moment ago. */
export async function deadOrigin(): Promise<string> {
  const server = createServer();
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  const { port } = server.address() as AddressInfo;
  await new Promise((closed) => server.close(closed));
  return `http://127.0.0.1:${port}`;
}

/** A ZIP file whose entries are stored as they are (APPNOTE 4.3). */
export function zipOf(files: Record<string, Buffer>): Buffer {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const [path, content] of Object.entries(files)) {
    const name = Buffer.from(path);
    // Version 2.0, no flags, stored, midnight of the first of January 1980, CRC-32, sizes, length of the name.
    const facts = Buffer.alloc(26);
    facts.writeUInt16LE(20, 0);
    facts.writeUInt16LE(0x21, 8);
    facts.writeUInt32LE(crc32(content), 10);
    facts.writeUInt32LE(content.length, 14);
    facts.writeUInt32LE(content.length, 18);
    facts.writeUInt16LE(name.length, 22);
    parts.push(Buffer.from("PK\x03\x04"), facts, name, content);
    const rest = Buffer.alloc(14);
    rest.writeUInt32LE(offset, 10);
    directory.push(Buffer.from("PK\x01\x02"), Buffer.from([20, 0]), facts, rest, name);
    offset += 4 + facts.length + name.length + content.length;
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  const end = Buffer.alloc(18);
  end.writeUInt16LE(Object.keys(files).length, 4);
  end.writeUInt16LE(Object.keys(files).length, 6);
  end.writeUInt32LE(size, 8);
  end.writeUInt32LE(offset, 12);
  return Buffer.concat([...parts, ...directory, Buffer.from("PK\x05\x06"), end]);
}
