import { closeSync, constants, fdatasyncSync, fstatSync, mkdirSync, openSync, readdirSync, readSync } from "node:fs";
import { open } from "node:fs/promises";
import { dirname, join } from "node:path";
import { syncDirectory } from "../files/durable.ts";

/** What the records need of a file system; a directory on a disk, or a simulated one that loses what was not flushed. */
export interface RecordFiles {
  /** For messages to people. */
  describe(name: string): string;
  names(): readonly string[];
  /** Creates a file that nobody else could create. @throws the system's EEXIST */
  create(name: string): Promise<AppendFile>;
  size(name: string): number;
  /** Up to `into.length` bytes from `position`; how many. */
  read(name: string, position: number, into: Uint8Array): number;
  /** Whatever anybody has written to the file is durable afterwards. */
  sync(name: string): void;
  /** Files that were created are durable afterwards. */
  syncNames(): void;
}

export interface AppendFile {
  /** Writes some of the bytes at the end; how many. */
  write(bytes: Uint8Array): Promise<number>;
  sync(): Promise<void>;
  close(): Promise<void>;
}

/** Record files in a directory, which is made where it is missing. */
export function directoryFiles(directory: string): RecordFiles {
  if (mkdirSync(directory, { recursive: true }) !== undefined) syncDirectory(dirname(directory));
  const at = (name: string) => join(directory, name);
  const using = <T>(name: string, flags: number | string, use: (descriptor: number) => T): T => {
    const descriptor = openSync(at(name), flags);
    try {
      return use(descriptor);
    } finally {
      closeSync(descriptor);
    }
  };
  return {
    describe: at,
    names: () => readdirSync(directory),
    async create(name) {
      const flags = constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_EXCL;
      const handle = await open(at(name), flags, 0o600);
      return {
        write: async (bytes) => (await handle.write(bytes)).bytesWritten,
        sync: () => handle.datasync(),
        close: () => handle.close(),
      };
    },
    size: (name) => using(name, "r", (descriptor) => fstatSync(descriptor).size),
    read: (name, position, into) =>
      using(name, "r", (descriptor) => readSync(descriptor, into, 0, into.length, position)),
    sync: (name) => using(name, constants.O_RDWR, fdatasyncSync),
    syncNames: () => syncDirectory(directory),
  };
}
