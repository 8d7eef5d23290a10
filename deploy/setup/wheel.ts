import { createWriteStream, mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { openPromise } from "yauzl";
import { LockstepError, sentenceOf } from "../../shared/errors.ts";
import type { IndexFile } from "./python-index.ts";

/**
 * The wheel of a version for Linux x86-64 that is for the newest Python; which one does not matter to a C library. All
 * machines that see the same index choose the same.
 */
export function linuxWheel(files: readonly IndexFile[], version: string): IndexFile | null {
  const fitting = files.flatMap((file) => {
    // PEP 427: name-version[-build]-python-abi-platform.whl
    const parts = file.filename.replace(/\.whl$/, "").split("-");
    const fits =
      file.filename.endsWith(".whl") && parts[1] === version && /manylinux[^.]*x86_64/.test(parts.at(-1) ?? "");
    return fits ? [{ file, python: pythonOf(parts.at(-3) ?? "") }] : [];
  });
  fitting.sort((a, b) => b.python - a.python || (a.file.filename < b.file.filename ? -1 : 1));
  return fitting[0]?.file ?? null;
}

/** cp313 is 3.13: 313; cp39 is 3.9: 309. */
function pythonOf(tag: string): number {
  const [, major = "0", minor = "0"] = /^[a-z]+(\d)(\d*)/.exec(tag) ?? [];
  return Number(major) * 100 + Number(minor);
}

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
      await pipeline(await archive.openReadStreamPromise(entry), createWriteStream(file), options);
      count += 1;
    }
  } finally {
    archive.close();
  }
  return count;
}
