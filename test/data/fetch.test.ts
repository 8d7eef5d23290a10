import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterEach, beforeAll, beforeEach, describe, expect, it, onTestFinished, vi } from "vitest";
import { fetchStl10 } from "../../deploy/data/fetch.ts";
import { LockstepError } from "../../shared/errors.ts";
import { serve, smallArchive } from "./archive-server.ts";
import { temporary } from "./support.ts";

let small: Awaited<ReturnType<typeof smallArchive>>;
let wholeLabelled: number;
beforeAll(async () => {
  small = await smallArchive();
  wholeLabelled = small.files.reduce((sum, { bytes }) => sum + bytes, 0);
});

/** What the fetch of the running test has reached. */
let reached = 0;
let waiting: { readonly position: number; readonly go: () => void }[] = [];
const report = (total: number) => {
  reached = total;
  for (const { position, go } of waiting) if (position <= total) go();
};
const beforeCut = (position: number) =>
  new Promise<void>((go) => {
    if (position <= reached) go();
    else waiting.push({ position, go });
  });
beforeEach(() => {
  reached = 0;
  waiting = [];
});

const servers: { close(): Promise<void> }[] = [];
const started = async (options: Omit<Parameters<typeof serve>[0], "archive"> & { archive?: () => Buffer } = {}) => {
  const server = await serve({ archive: () => small.archive, beforeCut, ...options });
  servers.push(server);
  return server;
};
afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => server.close()));
});

const fetchInto = (directory: string, url: string, more: Partial<Parameters<typeof fetchStl10>[0]> = {}) =>
  fetchStl10({
    directory,
    url,
    files: small.files,
    attempts: 3,
    firstPause: 1,
    ...more,
    onProgress: (progress) => {
      report(progress.total);
      more.onProgress?.(progress);
    },
  });

function expectComplete(directory: string) {
  for (const { name } of small.files)
    expect(readFileSync(join(directory, name)).equals(small.contents[name]!)).toBe(true);
  expect(readdirSync(directory).filter((name) => name.startsWith("."))).toEqual([]);
}

const codeOf = (promise: Promise<unknown>) =>
  promise.then(
    () => {
      throw new Error("nothing was thrown");
    },
    (error: unknown) => {
      if (!(error instanceof LockstepError)) throw error;
      return error;
    },
  );

describe("fetching the official archive", () => {
  it("stops behind the four labelled files: the server sees that the rest is not read", async () => {
    const server = await started();
    const directory = join(temporary("fetch"), "new", "folder");
    const seen: number[] = [];
    expect(await fetchInto(directory, server.url, { onProgress: ({ total }) => seen.push(total) })).toBe(true);
    expectComplete(directory);
    await server.requests[0]!.closed;
    expect(small.archive.length).toBeGreaterThan(24_000_000);
    expect(server.requests.map(({ range }) => range)).toEqual([null]);
    // Buffers of sockets and streams hold some more, but never the 24 MB of unlabelled images.
    expect(server.requests[0]!.sent).toBeLessThan(15_000_000);
    expect(seen).toEqual([...seen].sort((a, b) => a - b));
  });

  it("asks for nothing where the files are there", async () => {
    const server = await started();
    const directory = temporary("fetch");
    await fetchInto(directory, server.url);
    expect(await fetchInto(directory, server.url)).toBe(false);
    expect(server.requests.length).toBe(1);
  });

  it("goes on by itself where connections end early", async () => {
    const server = await started({ cut: (index) => (index < 6 ? 110_000 : null) });
    const directory = temporary("fetch");
    await fetchInto(directory, server.url);
    expectComplete(directory);
    const ranges = server.requests.map(({ range }) => Number(/\d+/.exec(range ?? "0")));
    expect(ranges).toEqual([0, 1, 2, 3, 4, 5, 6].map((index) => index * 110_000));
  });

  it("goes on in a later call where an earlier one was interrupted", async () => {
    const server = await started();
    const directory = temporary("fetch");
    const stop = new AbortController();
    const onProgress = ({ total }: { total: number }) => total > 450_000 && stop.abort();
    await expect(fetchInto(directory, server.url, { signal: stop.signal, onProgress })).rejects.toThrow(/abort/i);
    expect(existsSync(join(directory, "train_X.bin"))).toBe(false);
    const kept = statSync(join(directory, ".fetch", "archive.tar.gz.part")).size;
    expect(kept).toBeGreaterThan(400_000);
    let fetched = 0;
    await fetchInto(directory, server.url, { onProgress: (progress) => (fetched = progress.fetched) });
    expectComplete(directory);
    expect(server.requests[1]!.range).toBe(`bytes=${kept}-`);
    expect(fetched).toBeLessThan(wholeLabelled - kept + 15_000_000);
  });

  it("reads over what it has where the server knows no ranges", async () => {
    const server = await started({ ranges: false, cut: (index) => (index < 2 ? 300_000 + index * 200_000 : null) });
    const directory = temporary("fetch");
    await fetchInto(directory, server.url);
    expectComplete(directory);
    expect(server.requests.length).toBe(3);
  });

  it("begins again where the archive has changed meanwhile", async () => {
    let version = 1;
    const other = await smallArchive(["test_y", "test_X", "train_y", "train_X"]);
    const server = await started({
      archive: () => (version === 1 ? small.archive : other.archive),
      tag: () => `"${version}"`,
      cut: () => (version === 1 ? 300_000 : null),
      status: (index) => (version === 1 && index > 0 ? 404 : 200),
    });
    const directory = temporary("fetch");
    expect((await codeOf(fetchInto(directory, server.url))).code).toBe("LS_FETCH_REFUSED");
    version = 2;
    const messages: string[] = [];
    await fetchInto(directory, server.url, { onMessage: (message) => messages.push(message) });
    expectComplete(directory);
    expect(messages.join()).toContain("beginning again");
  });

  it("begins again where the kept bytes are torn", async () => {
    const server = await started({
      status: (index) => (index === 1 ? 404 : 200),
      cut: (index) => (index === 0 ? 300_000 : null),
    });
    const directory = temporary("fetch");
    await codeOf(fetchInto(directory, server.url));
    const part = join(directory, ".fetch", "archive.tar.gz.part");
    const bytes = readFileSync(part);
    writeFileSync(part, bytes.fill(0, bytes.length - 50_000));
    await fetchInto(directory, server.url);
    expectComplete(directory);
  });

  it("lets one of two callers work and the other wait for it", async () => {
    const server = await started();
    const directory = temporary("fetch");
    const messages: string[] = [];
    const onMessage = (message: string) => messages.push(message);
    const results = await Promise.all([
      fetchInto(directory, server.url, { onMessage }),
      fetchInto(directory, server.url, { onMessage }),
    ]);
    expect(results.sort()).toEqual([false, true]);
    expect(server.requests.length).toBe(1);
    expect(messages.join()).toContain("another process is fetching");
    expectComplete(directory);
  });

  it("fetches again what was cut off", async () => {
    const server = await started();
    const directory = temporary("fetch");
    await fetchInto(directory, server.url);
    truncateSync(join(directory, "train_X.bin"), 1000);
    expect(await fetchInto(directory, server.url)).toBe(true);
    expectComplete(directory);
  });
});

describe("what a fetch says when it cannot succeed", () => {
  it("which file has a wrong MD5, and leaves nothing under its name", async () => {
    const server = await started();
    const directory = temporary("fetch");
    const files = small.files.map((file) => (file.name === "train_X.bin" ? { ...file, md5: "0".repeat(32) } : file));
    const error = await codeOf(fetchInto(directory, server.url, { files }));
    expect(error.code).toBe("LS_DATA_CHECKSUM");
    expect(error.message).toBe(
      `train_X.bin: bytes 0 to 300000 have MD5 ${small.files[2]!.md5} instead of ${"0".repeat(32)}.`,
    );
    expect(existsSync(join(directory, "train_X.bin"))).toBe(false);
    expect(existsSync(join(directory, "test_X.bin"))).toBe(true);
  });

  it("which file is too short", async () => {
    const server = await started();
    const files = small.files.map((file) => ({ ...file, bytes: file.bytes + 1 }));
    const error = await codeOf(fetchInto(temporary("fetch"), server.url, { files }));
    expect(error.message).toBe("test_X.bin ends at byte 400000 in the archive; 400001 bytes are expected.");
  });

  it("that it is no archive", async () => {
    const server = await started({ archive: () => Buffer.from("<html>please log in</html>".repeat(1000)) });
    const directory = temporary("fetch");
    const error = await codeOf(fetchInto(directory, server.url));
    expect(error.code).toBe("LS_DATA_ARCHIVE");
    expect(existsSync(join(directory, ".fetch", "archive.tar.gz.part"))).toBe(false);
  });

  it("which files an archive lacks", async () => {
    const server = await started();
    const files = [...small.files, { name: "other.bin", bytes: 1, md5: "" }];
    const error = await codeOf(fetchInto(temporary("fetch"), server.url, { files }));
    expect(error.message).toBe("The archive ends without other.bin.");
  });

  it("what the server answered", async () => {
    const server = await started({ status: () => 404 });
    const error = await codeOf(fetchInto(temporary("fetch"), server.url));
    expect([error.code, error.exitCode]).toEqual(["LS_FETCH_REFUSED", 3]);
    expect(error.message).toContain(`${server.url} answered 404`);
  });

  it("that the server is busy, after a few attempts", async () => {
    const server = await started({ status: () => 503 });
    const error = await codeOf(fetchInto(temporary("fetch"), server.url));
    expect(error.message).toBe(`${server.url} cannot be fetched: the server answered 503.`);
    expect(server.requests.length).toBe(3);
  });

  it("that a proxy hangs up on every attempt to open a tunnel", async () => {
    const proxy = createServer();
    proxy.on("connect", (_request, socket) => void socket.destroy());
    await new Promise<void>((listening) => proxy.listen(0, "127.0.0.1", listening));
    onTestFinished(() => void proxy.close());
    onTestFinished(() => void vi.unstubAllEnvs());
    vi.stubEnv("NO_PROXY", "");
    vi.stubEnv("https_proxy", `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`);
    const options = { attempts: 2, silence: 50 };
    const error = await codeOf(fetchInto(temporary("fetch"), "https://archive.invalid/stl10.tar.gz", options));
    expect(error.code).toBe("LS_FETCH_UNREACHABLE");
  });

  it("plain HTTP needs no tunnel through a proxy, loopback no proxy", async () => {
    const proxy = await started();
    onTestFinished(() => void vi.unstubAllEnvs());
    vi.stubEnv("NO_PROXY", "");
    vi.stubEnv("http_proxy", new URL(proxy.url).origin);
    const directory = temporary("fetch");
    await fetchInto(directory, "http://archive.invalid/stl10_binary.tar.gz");
    expectComplete(directory);
    expect(proxy.requests.length).toBe(1);
    const server = await started();
    await fetchInto(temporary("fetch"), server.url);
    expect([proxy.requests.length, server.requests.length]).toEqual([1, 1]);
  });

  it("that there is no server, and what to do", async () => {
    const server = await started();
    await server.close();
    const error = await codeOf(fetchInto(temporary("fetch"), server.url));
    expect(error.code).toBe("LS_FETCH_UNREACHABLE");
    expect(error.message).toContain("ECONNREFUSED");
    expect(error.toLine()).toContain("--url");
  });
});

describe("a folder that is there already", () => {
  it("keeps other files", async () => {
    const server = await started();
    const directory = temporary("fetch");
    mkdirSync(join(directory, "mine"));
    writeFileSync(join(directory, "mine", "note"), "keep");
    await fetchInto(directory, server.url);
    expect(readFileSync(join(directory, "mine", "note"), "utf8")).toBe("keep");
    expectComplete(directory);
  });
});
