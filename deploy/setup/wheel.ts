import { createWriteStream, mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { openPromise } from "yauzl";
import type { IndexFile } from "./python-index.ts";

/** The newest wheel of a version for Linux x86-64; which Python it is for does not matter, its libraries are the same. */
export function linuxWheel(files: readonly IndexFile[], version: string): IndexFile | null {
  const fitting = files.filter(
    ({ filename }) =>
      filename.endsWith(".whl") && filename.split("-")[1] === version && /manylinux.*x86_64/.test(filename),
  );
  return fitting.sort((a, b) => (a.filename < b.filename ? -1 : 1)).at(-1) ?? null;
}

/** Unpacks the entries that `place` gives a path (relative to `into`); null leaves one out. */
export async function unpackWheel(
  wheel: string,
  into: string,
  place: (name: string) => string | null,
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
      await pipeline(await archive.openReadStreamPromise(entry), createWriteStream(file));
      count += 1;
    }
  } finally {
    archive.close();
  }
  return count;
}
