import { createWriteStream, mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { openPromise } from "yauzl";
import { LockstepError, sentenceOf } from "../../shared/errors.ts";

/**
 * Unpacks the entries that `place` gives a path (relative to `into`); null leaves one out. Sizes are checked here, the
 * wheel's SHA-256 when it was fetched.
 * @returns how many were written
 * @throws LockstepError LS_WHEEL where it is not a whole ZIP file
 */
export async function unpackWheel(
  wheel: string,
  into: string,
  place: (name: string) => string | null,
  signal?: AbortSignal,
): Promise<number> {
  try {
    return await unpackEntries(wheel, into, place, signal);
  } catch (cause) {
    signal?.throwIfAborted();
    if ((cause as NodeJS.ErrnoException).code === "ENOSPC") throw cause;
    throw new LockstepError("LS_WHEEL", `${wheel} cannot be unpacked: ${sentenceOf(cause)}.`, {
      hint: "Run `npx lockstep setup --clean`, then `npx lockstep setup`.",
      exitCode: 3,
      cause,
    });
  }
}

async function unpackEntries(
  wheel: string,
  into: string,
  place: (name: string) => string | null,
  signal: AbortSignal | undefined,
): Promise<number> {
  const archive = await openPromise(wheel, { lazyEntries: true });
  let count = 0;
  try {
    for await (const entry of archive.eachEntry()) {
      const name = String(entry.fileName);
      const relative = name.endsWith("/") ? null : place(name);
      if (relative === null) continue;
      const file = join(into, relative);
      mkdirSync(dirname(file), { recursive: true });
      const options = signal === undefined ? {} : { signal };
      // The upper half holds Unix' mode: programs stay programs.
      const mode = (entry.externalFileAttributes >>> 16) & 0o111 ? 0o755 : 0o644;
      await pipeline(await archive.openReadStreamPromise(entry), createWriteStream(file, { mode }), options);
      count += 1;
    }
  } finally {
    archive.close();
  }
  return count;
}
