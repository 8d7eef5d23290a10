import { createHash } from "node:crypto";
import { createReadStream, existsSync, mkdirSync, renameSync, rmSync, statSync } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { dirname } from "node:path";
import pRetry, { AbortError } from "p-retry";
import { type Dispatcher, fetch, type Response } from "undici";
import { LockstepError } from "../../shared/errors.ts";
import { withLock } from "./wait-lock.ts";
import { reasonOf, webDispatcher } from "./web.ts";

export interface Download {
  readonly url: string;
  /** Where the whole, checked file ends up. */
  readonly file: string;
  /** Hex; the file is refused where it differs. */
  readonly sha256: string;
  /** Bytes, 0 where unknown. */
  readonly size: number;
  readonly authorization?: string | null;
  readonly onProgress?: (done: number, total: number) => void;
  /** Called once where another process fetches the same file. */
  readonly onWait?: () => void;
  /** Attempts after the first, and the pause before the first of them in milliseconds; it doubles up to 10 s. */
  readonly retries?: number;
  readonly firstPause?: number;
  /** Milliseconds without a byte that end an attempt; a minute by default. */
  readonly silence?: number;
  readonly signal?: AbortSignal;
}

const SILENCE_MILLIS = 60_000;

/** Bytes that are of no use: another file, or damaged. */
class WrongHash extends Error {}

/**
 * Fetches a file once, whoever asks: goes on with what an interruption left, checks it, gives it its name at the end. A
 * second process waits for the first.
 * @throws LockstepError LS_DOWNLOAD, LS_DOWNLOAD_HASH or LS_DISK_FULL
 */
export async function download(options: Download): Promise<void> {
  const { file } = options;
  if (existsSync(file)) return;
  mkdirSync(dirname(file), { recursive: true });
  await withLock(file, options.onWait ?? (() => {}), async (lost) => {
    if (existsSync(file)) return;
    const signal = options.signal === undefined ? lost : AbortSignal.any([lost, options.signal]);
    const dispatcher = webDispatcher();
    try {
      await fetchChecked({ ...options, signal }, dispatcher);
    } catch (error) {
      signal.throwIfAborted();
      throw complaint(error, options);
    } finally {
      await dispatcher.destroy();
    }
  });
}

async function fetchChecked(options: Download, dispatcher: Dispatcher): Promise<void> {
  const { file, retries = 6, firstPause = 500, signal } = options;
  const partial = `${file}.partial`;
  const resumed = bytesOf(partial) > 0;
  const settings = { retries, minTimeout: firstPause, maxTimeout: 10_000, ...(signal && { signal }) };
  await pRetry(() => fetchRest(partial, options, dispatcher), settings);
  const sha256 = await sha256Of(partial);
  if (sha256 === options.sha256) return renameSync(partial, file);
  rmSync(partial, { force: true });
  // What an earlier attempt had left may have been torn: once more from the beginning.
  if (resumed) return fetchChecked(options, dispatcher);
  throw new WrongHash(sha256);
}

/** Asks for what is missing behind the partial file (RFC 9110, section 14), or for all where the server has no ranges. */
async function fetchRest(partial: string, options: Download, dispatcher: Dispatcher): Promise<void> {
  const { url, size, authorization, onProgress, signal } = options;
  const have = bytesOf(partial);
  if (size > 0 && have === size) return;
  if (size > 0 && have > size) rmSync(partial, { force: true });
  const from = size > 0 && have > size ? 0 : have;
  const silence = new AbortController();
  // Covers what undici's own limits leave out: a proxy that hangs up on every attempt to open a tunnel.
  const alarm = setTimeout(
    () => silence.abort(new Error("nothing came for a minute")),
    options.silence ?? SILENCE_MILLIS,
  );
  const handles: FileHandle[] = [];
  let done = from;
  try {
    const response = await fetch(url, {
      headers: {
        // A compressed answer would have other offsets than the file.
        "accept-encoding": "identity",
        ...(from > 0 && { range: `bytes=${from}-` }),
        ...(authorization && { authorization }),
      },
      dispatcher,
      signal: signal === undefined ? silence.signal : AbortSignal.any([signal, silence.signal]),
    });
    const appends = startsAt(response, from, partial);
    if (!appends) done = 0;
    const handle = await open(partial, appends ? "a" : "w");
    handles.push(handle);
    for await (const chunk of response.body as AsyncIterable<Uint8Array>) {
      // writeFile goes on until all is written; write may stop early on a disk that is nearly full.
      await handle.writeFile(chunk);
      done += chunk.length;
      alarm.refresh();
      onProgress?.(done, size);
    }
    await handle.sync();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOSPC") throw new AbortError(error as Error);
    // A plain error is tried again, whatever class undici gave it; the caller's signal ends the attempts by itself.
    throw error instanceof AbortError ? error : new Error(reasonOf(error), { cause: error });
  } finally {
    clearTimeout(alarm);
    for (const handle of handles) await handle.close();
  }
  if (size > 0 && done !== size) throw new Error(`the connection ended after ${done} of ${size} bytes`);
}

/** Whether the answer goes on at `from`; false: it is the whole file. */
function startsAt(response: Response, from: number, partial: string): boolean {
  const { status } = response;
  if (status === 416) {
    rmSync(partial, { force: true });
    throw new Error("what was kept does not belong to this file");
  }
  if (!response.ok || response.body === null) {
    const error = new Error(`the server answered ${status}`);
    throw status >= 400 && status < 500 && status !== 408 && status !== 429 ? new AbortError(error) : error;
  }
  if (status !== 206) return false;
  const range = /^bytes (\d+)-/.exec(response.headers.get("content-range") ?? "");
  if (Number(range?.[1]) !== from) throw new Error("the server sent another part than it was asked for");
  return true;
}

function complaint(error: unknown, { url, sha256 }: Download): LockstepError {
  if (error instanceof LockstepError) return error;
  const { origin, pathname } = new URL(url);
  const name = `${origin}${pathname}`;
  if (error instanceof WrongHash) {
    return new LockstepError("LS_DOWNLOAD_HASH", `${name} has the SHA-256 ${error.message}, not ${sha256}.`, {
      hint: "It was damaged on the way or changed; run the command again, or use another index.",
      exitCode: 3,
    });
  }
  if ((error as NodeJS.ErrnoException).code === "ENOSPC") {
    return new LockstepError("LS_DISK_FULL", `The disk is full while fetching ${name}.`, {
      hint: "Free some space, or set LOCKSTEP_CACHE to another disk; it goes on where it stopped.",
      exitCode: 3,
      cause: error,
    });
  }
  return new LockstepError("LS_DOWNLOAD", `${name} could not be fetched: ${reasonOf(error)}.`, {
    hint: "Check the network and run the command again; it goes on where it stopped.",
    exitCode: 3,
    cause: error,
  });
}

const bytesOf = (file: string): number => (existsSync(file) ? statSync(file).size : 0);

/** Hex. */
export async function sha256Of(file: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
  return hash.digest("hex");
}
