import { type FileHandle, open, readFile, rm, stat, writeFile } from "node:fs/promises";
import { setTimeout as pause } from "node:timers/promises";
import { type Dispatcher, fetch, type Response } from "undici";
import { LockstepError, sentenceOf } from "../../shared/errors.ts";
import { webDispatcher } from "../setup/web.ts";

/**
 * The bytes of a remote archive from its beginning, whatever was fetched before. They are kept in a file as they come,
 * so that a later call reads that file again and asks the server for the rest only (RFC 9110, section 14: Range).
 */
export interface ArchiveSource {
  readonly url: string;
  /** Where the bytes are kept; beside it, with .json behind the name, which archive they belong to. */
  readonly partFile: string;
  readonly signal?: AbortSignal;
  /** Called with the number of bytes at hand, and how many of them came over the network in this call. */
  readonly onBytes?: (total: number, fetched: number) => void;
  /** Failures in a row, without a byte in between, after which it gives up. */
  readonly attempts?: number;
  /** First pause before another attempt, in milliseconds; it doubles. */
  readonly firstPause?: number;
  /** How long nothing may come before an attempt is given up, in milliseconds. */
  readonly silence?: number;
}

/** What the server says about the archive; another value means another archive. */
interface Identity {
  readonly url: string;
  readonly tag: string | null;
  readonly bytes: number | null;
}

/** Thrown where the kept bytes belong to another archive than the server's: delete them and begin again. */
export class ArchiveChanged extends Error {}

const SILENCE_MILLIS = 30_000;
const LONGEST_PAUSE = 15_000;
const READ_BYTES = 1 << 20;

/** @throws LockstepError LS_FETCH_UNREACHABLE or LS_FETCH_REFUSED; ArchiveChanged. */
export async function* archiveBytes(source: ArchiveSource): AsyncGenerator<Uint8Array> {
  const { partFile, signal, onBytes } = source;
  const known = await readIdentity(source);
  if (known === null) await forgetArchive(partFile);
  const file = await open(partFile, "a+");
  let total = 0;
  try {
    for await (const chunk of file.createReadStream({ start: 0, highWaterMark: READ_BYTES, autoClose: false })) {
      total += chunk.length;
      onBytes?.(total, 0);
      yield chunk;
    }
    const rest = new Rest(source, known, total, file);
    for await (const chunk of rest.chunks()) {
      total += chunk.length;
      onBytes?.(total, rest.fetched);
      yield chunk;
    }
  } finally {
    await file.close();
    signal?.throwIfAborted();
  }
}

/** Deletes what was kept of an archive. */
export async function forgetArchive(partFile: string): Promise<void> {
  await rm(partFile, { force: true });
  await rm(`${partFile}.json`, { force: true });
}

/** Bytes kept of an archive. */
export async function keptBytes(partFile: string): Promise<number> {
  return (await stat(partFile).catch(() => null))?.size ?? 0;
}

/** The part of an archive that is not yet kept, fetched in as many requests as it takes. */
class Rest {
  fetched = 0;
  readonly #source: ArchiveSource;
  readonly #file: FileHandle;
  readonly #dispatcher: Dispatcher;
  #identity: Identity | null;
  #offset: number;

  constructor(source: ArchiveSource, identity: Identity | null, offset: number, file: FileHandle) {
    this.#source = source;
    this.#identity = identity;
    this.#offset = offset;
    this.#file = file;
    this.#dispatcher = dispatcherFor(source.url);
  }

  async *chunks(): AsyncGenerator<Uint8Array> {
    const { attempts = 6, firstPause = 500, signal } = this.#source;
    let failures = 0;
    try {
      while (this.#identity?.bytes !== this.#offset) {
        const before = this.#offset;
        try {
          yield* this.#request();
          if (this.#identity?.bytes == null) return; // The server did not say how long it is: this was its end.
        } catch (error) {
          signal?.throwIfAborted();
          if (error instanceof LockstepError || error instanceof ArchiveChanged) throw error;
          failures = this.#offset > before ? 1 : failures + 1;
          if (failures >= attempts) throw unreachable(this.#source.url, this.#offset, error);
          await pause(Math.min(LONGEST_PAUSE, firstPause * 2 ** (failures - 1)), undefined, { signal });
        }
      }
    } finally {
      await this.#dispatcher.destroy();
    }
  }

  async *#request(): AsyncGenerator<Uint8Array> {
    const { url, signal } = this.#source;
    const headers: Record<string, string> = { "accept-encoding": "identity" };
    if (this.#offset > 0) {
      headers.range = `bytes=${this.#offset}-`;
      if (this.#identity?.tag != null) headers["if-range"] = this.#identity.tag;
    }
    const silence = new AbortController();
    const millis = this.#source.silence ?? SILENCE_MILLIS;
    // Covers what undici's own limits leave out: a proxy that hangs up on every attempt to open a tunnel.
    const alarm = setTimeout(() => silence.abort(new Error(`nothing came for ${millis / 1000} s`)), millis);
    try {
      const either = signal === undefined ? silence.signal : AbortSignal.any([signal, silence.signal]);
      yield* this.#body(await fetch(url, { headers, dispatcher: this.#dispatcher, signal: either }), alarm);
    } finally {
      clearTimeout(alarm);
    }
  }

  async *#body(response: Response, alarm: NodeJS.Timeout): AsyncGenerator<Uint8Array> {
    const start = this.#check(response);
    await writeFile(`${this.#source.partFile}.json`, JSON.stringify(this.#identity));
    let skip = this.#offset - start;
    for await (const chunk of response.body ?? []) {
      const bytes: Uint8Array = chunk;
      alarm.refresh();
      this.fetched += bytes.length;
      const fresh = bytes.subarray(Math.min(skip, bytes.length));
      skip -= bytes.length - fresh.length;
      if (fresh.length === 0) continue;
      await this.#file.appendFile(fresh);
      this.#offset += fresh.length;
      yield fresh;
    }
    if (this.#identity?.bytes != null && this.#offset < this.#identity.bytes)
      throw new Error("the connection ended early");
  }

  /** Where the response's body begins in the archive. */
  #check(response: Response): number {
    const { url } = this.#source;
    if (response.status === 429 || response.status >= 500) throw new Error(`the server answered ${response.status}`);
    if (response.status !== 200 && response.status !== 206) {
      throw new LockstepError("LS_FETCH_REFUSED", `${url} answered ${response.status} ${response.statusText}.`.trim(), {
        hint: "Give another address with --url.",
        exitCode: 3,
      });
    }
    const range = /^bytes (\d+)-\d+\/(\d+)$/.exec(response.headers.get("content-range") ?? "");
    const length = response.headers.get("content-length");
    const start = response.status === 206 ? Number(range?.[1] ?? Number.NaN) : 0;
    const bytes = response.status === 206 ? Number(range?.[2]) : length === null ? null : Number(length);
    const etag = response.headers.get("etag");
    const tag = etag?.startsWith("W/") ? null : (etag ?? response.headers.get("last-modified"));
    const identity: Identity = { url, tag, bytes };
    const known = this.#identity;
    if (known !== null && (known.tag !== tag || (known.bytes !== null && bytes !== null && known.bytes !== bytes))) {
      throw new ArchiveChanged(`${url} is another archive than before`);
    }
    if (!(start <= this.#offset)) throw new Error(`the server sent bytes from ${start} instead of ${this.#offset}`);
    this.#identity = identity;
    return start;
  }
}

async function readIdentity({ url, partFile }: ArchiveSource): Promise<Identity | null> {
  try {
    const identity = JSON.parse(await readFile(`${partFile}.json`, "utf8")) as Identity;
    return identity.url === url ? identity : null;
  } catch {
    return null;
  }
}

/** Loopback never goes through a proxy, whatever the environment says. */
function dispatcherFor(url: string): Dispatcher {
  const { hostname } = new URL(url);
  return webDispatcher(undefined, hostname === "localhost" || hostname === "[::1]" || hostname.startsWith("127."));
}

function unreachable(url: string, offset: number, cause: unknown): LockstepError {
  const reason = cause instanceof Error && cause.cause !== undefined ? sentenceOf(cause.cause) : sentenceOf(cause);
  const where = offset > 0 ? ` after ${offset} bytes, which are kept` : "";
  return new LockstepError("LS_FETCH_UNREACHABLE", `${url} cannot be fetched${where}: ${reason}.`, {
    hint: "Run the command again to go on, or give a mirror with --url, or a data set with --data.",
    exitCode: 3,
    cause,
  });
}
