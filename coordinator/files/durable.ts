import { closeSync, fsyncSync, openSync, renameSync, rmSync, writeFileSync, writeSync } from "node:fs";
import type { FileHandle } from "node:fs/promises";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

/** Names that were created, renamed or removed in a directory are durable afterwards. */
export function syncDirectory(directory: string): void {
  const descriptor = openSync(directory, "r");
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/**
 * Replaces a small file in one go: whoever reads it, also after a crash, finds the old or the new content.
 * @throws the system's error; the old content stays then, and nothing else does
 */
export function replaceFile(path: string, content: string | Uint8Array, mode = 0o644): void {
  const temporary = `${path}.partial`;
  try {
    const descriptor = openSync(temporary, "w", mode);
    try {
      writeFileSync(descriptor, content);
      fsyncSync(descriptor);
    } finally {
      closeSync(descriptor);
    }
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
  syncDirectory(dirname(path));
}

/** The disk (or its quota) is full: waiting may help, and what was written so far is whole. */
export const isDiskFull = (error: unknown): boolean =>
  ["ENOSPC", "EDQUOT"].includes((error as NodeJS.ErrnoException | null)?.code ?? "");

/** Writes all bytes, in as many pieces as the system takes. */
export async function writeAll(handle: Pick<FileHandle, "write">, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length; ) at += (await handle.write(bytes.subarray(at))).bytesWritten;
}

/** The same at a position, without letting anything else happen in between. */
export function writeAllSync(descriptor: number, bytes: Uint8Array, position: number): void {
  for (let at = 0; at < bytes.length; ) {
    at += writeSync(descriptor, bytes, at, bytes.length - at, position + at);
  }
}

/** Tries again on a full disk until there is room, at most for `patience` milliseconds. @throws the system's error */
export async function withRoom(patience: number, write: () => void, retryEvery = 1000): Promise<void> {
  const until = performance.now() + patience;
  for (;;) {
    try {
      return write();
    } catch (error) {
      if (!isDiskFull(error) || performance.now() > until) throw error;
      await sleep(retryEvery);
    }
  }
}
