import type { AppendFile, RecordFiles } from "../../coordinator/records/record-files.ts";

interface SimulatedFile {
  content: Buffer;
  /** Bytes that a crash cannot take away. */
  synced: number;
  nameSynced: boolean;
}

/** A crash in the middle of an operation: nothing after it happens. */
export class Crash extends Error {}

/** Bytes that a disk writes as one; small, so that a line spans several. */
const PAGE = 32;

/**
 * A file system that loses what was not flushed: after a crash each page that was not synced is there, or full of zeros,
 * and the file ends anywhere behind its synced part; names that were not synced may be gone.
 */
export class SimulatedDisk implements RecordFiles {
  readonly files = new Map<string, SimulatedFile>();
  /** Operations until the crash; each write takes only part of the bytes. */
  crashIn = Number.POSITIVE_INFINITY;
  /** Writes that fail with this before the next one succeeds. */
  failures: NodeJS.ErrnoException[] = [];
  readonly operations: string[] = [];
  readonly #random: () => number;

  constructor(random: () => number) {
    this.#random = random;
  }

  describe = (name: string): string => name;
  names = (): readonly string[] => [...this.files.keys()];
  size = (name: string): number => this.files.get(name)!.content.length;

  async create(name: string): Promise<AppendFile> {
    this.operate(`create ${name}`);
    if (this.files.has(name)) throw Object.assign(new Error("exists"), { code: "EEXIST" });
    const file: SimulatedFile = { content: Buffer.alloc(0), synced: 0, nameSynced: false };
    this.files.set(name, file);
    return {
      write: async (bytes) => {
        const count = 1 + Math.floor(this.#random() * bytes.length);
        const failure = this.failures.shift();
        if (failure !== undefined) throw failure;
        file.content = Buffer.concat([file.content, bytes.subarray(0, count)]);
        this.operate(`write ${name}`);
        return count;
      },
      sync: async () => {
        this.operate(`sync ${name}`);
        file.synced = file.content.length;
      },
      close: async () => {},
    };
  }

  read(name: string, position: number, into: Uint8Array): number {
    const piece = this.files.get(name)!.content.subarray(position, position + into.length);
    into.set(piece);
    return piece.length;
  }

  sync(name: string): void {
    this.operate(`sync ${name}`);
    const file = this.files.get(name)!;
    file.synced = file.content.length;
  }

  syncNames(): void {
    this.operate("sync names");
    for (const file of this.files.values()) file.nameSynced = true;
  }

  /** What the next start of the machine finds. */
  afterCrash(): void {
    this.crashIn = Number.POSITIVE_INFINITY;
    for (const [name, file] of this.files) {
      if (!file.nameSynced && this.#random() < 0.5) {
        this.files.delete(name);
        continue;
      }
      file.nameSynced = true;
      const end = file.synced + Math.floor(this.#random() * (file.content.length - file.synced + 1));
      const content = Buffer.from(file.content.subarray(0, end));
      for (let page = Math.floor(file.synced / PAGE) * PAGE; page < end; page += PAGE) {
        if (this.#random() < 0.5) content.fill(0, Math.max(page, file.synced), Math.min(page + PAGE, end));
      }
      file.content = content;
      file.synced = end;
    }
  }

  /** One more operation, of this disk or of something else that lives and dies with it. */
  operate(name: string): void {
    this.operations.push(name);
    if (this.crashIn-- <= 0) throw new Crash();
  }
}
