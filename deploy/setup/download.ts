import { createHash } from "node:crypto";
import { createReadStream, existsSync, mkdirSync, renameSync, rmSync, statSync } from "node:fs";
import { open } from "node:fs/promises";
import { dirname } from "node:path";
import pRetry, { AbortError } from "p-retry";
import lockfile from "proper-lockfile";
import { fetch } from "undici";
import { LockstepError } from "../../shared/errors.ts";
import { dispatcher, reason } from "./python-index.ts";

export interface Download {
  readonly url: string;
  /** Where the whole, checked file ends up. */
  readonly file: string;
  /** Hex; the file is refused where it differs. */
  readonly sha256: string;
  /** Bytes, 0 where unknown. */
  readonly size: number;
  readonly onProgress?: (done: number, total: number) => void;
  readonly retries?: number;
}

/**
 * Fetches a file once, whoever asks: resumes what an interruption left, checks it, gives it its name at the end. A
 * second process waits for the first.
 * @throws LockstepError LS_DOWNLOAD, LS_DOWNLOAD_HASH or LS_DISK_FULL
 */
export async function download(options: Download): Promise<void> {
  const { file } = options;
  if (existsSync(file)) return;
  mkdirSync(dirname(file), { recursive: true });
  const release = await lockfile.lock(file, {
    realpath: false,
    stale: 20_000,
    retries: { retries: 3600, minTimeout: 500, maxTimeout: 1000 },
  });
  try {
    if (existsSync(file)) return;
    const partial = `${file}.partial`;
    await pRetry(() => fetchRest(partial, options), {
      retries: options.retries ?? 5,
      minTimeout: 500,
      maxTimeout: 5000,
    });
    const sha256 = await sha256Of(partial);
    if (sha256 !== options.sha256) {
      rmSync(partial, { force: true });
      throw new LockstepError("LS_DOWNLOAD_HASH", `${options.url} has the SHA-256 ${sha256}, not ${options.sha256}.`, {
        hint: "It was damaged on the way or changed; run the command again, or use another index.",
        exitCode: 3,
      });
    }
    renameSync(partial, file);
  } catch (error) {
    if (error instanceof LockstepError) throw error;
    const full = (error as NodeJS.ErrnoException).code === "ENOSPC";
    throw new LockstepError(
      full ? "LS_DISK_FULL" : "LS_DOWNLOAD",
      full
        ? `The disk is full while fetching ${options.url}.`
        : `${options.url} could not be fetched: ${reason(error)}.`,
      {
        hint: full
          ? "Free some space, or set LOCKSTEP_CACHE to another disk."
          : "Check the network and run the command again; it goes on where it stopped.",
        exitCode: 3,
        cause: error,
      },
    );
  } finally {
    await release().catch(() => {});
  }
}

async function fetchRest(partial: string, { url, size, onProgress }: Download): Promise<void> {
  const have = existsSync(partial) ? statSync(partial).size : 0;
  if (size > 0 && have === size) return;
  const headers: Record<string, string> = have > 0 ? { range: `bytes=${have}-` } : {};
  const response = await fetch(url, { headers, dispatcher });
  if (response.status === 416) {
    rmSync(partial, { force: true });
    throw new Error("the part that is there does not fit");
  }
  if (!response.ok || response.body === null) {
    const error = new Error(`the server answered ${response.status}`);
    throw response.status >= 400 && response.status < 500 ? new AbortError(error) : error;
  }
  const resumed = response.status === 206;
  const handle = await open(partial, resumed ? "a" : "w");
  let done = resumed ? have : 0;
  try {
    for await (const chunk of response.body as AsyncIterable<Uint8Array>) {
      await handle.write(chunk);
      done += chunk.length;
      onProgress?.(done, size);
    }
    await handle.sync();
  } finally {
    await handle.close();
  }
  if (size > 0 && done !== size) throw new Error(`the connection ended after ${done} of ${size} bytes`);
}

async function sha256Of(file: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
  return hash.digest("hex");
}
