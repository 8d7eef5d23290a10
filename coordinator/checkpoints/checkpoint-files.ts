import { createReadStream, mkdirSync, readdirSync, rmSync, statSync } from "node:fs";
import { type FileHandle, open, rename } from "node:fs/promises";
import { join } from "node:path";
import { replaceFile, syncDirectory } from "../files/durable.ts";

/** What the checkpoints need of a file system; a directory on a disk, or a test's, which may be full or lose things. */
export interface CheckpointFiles {
  names(): readonly string[];
  /** Bytes of a file, and a stamp that differs after every change to it; null where there is none. */
  look(name: string): { readonly bytes: number; readonly stamp: string } | null;
  /** Opens a file to write it from its beginning. */
  create(name: string): Promise<Pick<FileHandle, "write" | "sync" | "close">>;
  /** Bytes [from, to). */
  read(name: string, from: number, to: number): AsyncIterable<Buffer>;
  /** The new name is durable afterwards. */
  rename(from: string, to: string): Promise<void>;
  /** Replaces a small file in one go. */
  replace(name: string, content: string): void;
  remove(name: string): void;
}

const PIECE = 1 << 20;

/** Checkpoints in a directory, which is made where it is missing. */
export function checkpointDirectory(directory: string): CheckpointFiles {
  mkdirSync(directory, { recursive: true });
  const at = (name: string) => join(directory, name);
  return {
    names: () => readdirSync(directory),
    look(name) {
      const found = statSync(at(name), { bigint: true, throwIfNoEntry: false });
      if (found === undefined) return null;
      const { ino, size, mtimeNs, ctimeNs } = found;
      return { bytes: Number(size), stamp: `${ino}/${size}/${mtimeNs}/${ctimeNs}` };
    },
    create: (name) => open(at(name), "w", 0o644),
    read: (name, from, to) => createReadStream(at(name), { highWaterMark: PIECE, start: from, end: to - 1 }),
    async rename(from, to) {
      await rename(at(from), at(to));
      syncDirectory(directory);
    },
    replace: (name, content) => replaceFile(at(name), content),
    remove: (name) => rmSync(at(name), { force: true }),
  };
}
