import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, readdirSync, readFileSync, writeSync } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { LockstepError } from "../../shared/errors.ts";
import { type DurableRecord, recordSchema } from "./record.ts";

/**
 * The store of a run's records in its directory. Every term creates a file of its own, exclusively, and says in its first
 * line how many bytes of the older files it accepts: what an older coordinator appends later does not count. A line is
 * its CRC-32, a space, JSON; a torn last line (a crash while it was written) does not count either.
 */
const nameOf = (term: number) => `term-${term}.ndjson`;

export interface Store {
  readonly term: number;
  /** Resolves when the records are on the disk. Records of calls in flight share one flush. */
  append(records: readonly DurableRecord[]): Promise<void>;
  /** All records that count, oldest first. */
  records(): Generator<DurableRecord>;
  close(): Promise<void>;
}

/** Lines of a file that are whole, and where they end. */
function wholeLines(file: string, bytes = Number.POSITIVE_INFINITY): { readonly records: DurableRecord[]; readonly end: number } {
  const content = readFileSync(file).subarray(0, bytes);
  const records: DurableRecord[] = [];
  let at = 0;
  for (;;) {
    const newline = content.indexOf(10, at);
    if (newline < 0) return { records, end: at };
    const record = parseLine(content.subarray(at, newline));
    if (record === null) {
      if (newline + 1 >= content.length) return { records, end: at };
      throw new LockstepError("LS_RECORDS_DAMAGED", `${file} is damaged at byte ${at}: a record there does not match its checksum.`, {
        hint: "Restore the file from a backup, or start a new run from the newest checkpoint.",
      });
    }
    records.push(record);
    at = newline + 1;
  }
}

function parseLine(line: Buffer): DurableRecord | null {
  const space = line.indexOf(32);
  const text = line.subarray(space + 1);
  if (space !== 8 || line.subarray(0, 8).toString() !== checksum(text)) return null;
  return recordSchema.parse(JSON.parse(text.toString()));
}

const checksum = (text: Buffer) => crc32(text).toString(16).padStart(8, "0");

function lineOf(record: DurableRecord): Buffer {
  const text = Buffer.from(JSON.stringify(record));
  return Buffer.concat([Buffer.from(`${checksum(text)} `), text, Buffer.from("\n")]);
}

const termsIn = (directory: string): number[] =>
  readdirSync(directory)
    .map((name) => /^term-(\d+)\.ndjson$/.exec(name)?.[1])
    .filter((term) => term !== undefined)
    .map(Number)
    .sort((a, b) => a - b);

/** The older files that count for a new term, with the bytes of each: as the newest valid first line says, then that file. */
function acceptedFiles(directory: string): { term: number; bytes: number }[] {
  for (const term of termsIn(directory).reverse()) {
    const { records, end } = wholeLines(join(directory, nameOf(term)));
    const [first] = records;
    if (first?.kind !== "term") continue; // It died before its first line: that term never ruled.
    return [...first.accepts, { term, bytes: end }];
  }
  return [];
}

/** The records that count in a directory, without taking a term: for readers. */
export function* readRecords(directory: string): Generator<DurableRecord> {
  if (!existsSync(directory)) return;
  for (const { term, bytes } of acceptedFiles(directory)) yield* wholeLines(join(directory, nameOf(term)), bytes).records;
}

/**
 * Takes the next term: the one file that nobody else could create.
 * @throws LockstepError LS_RECORDS_DAMAGED
 */
export async function takeTerm(directory: string): Promise<Store> {
  mkdirSync(directory, { recursive: true });
  for (;;) {
    const accepts = acceptedFiles(directory);
    const term = (termsIn(directory).at(-1) ?? 0) + 1;
    const file = join(directory, nameOf(term));
    let created: number;
    try {
      created = openSync(file, "wx", 0o600);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "EEXIST") continue; // Somebody else took it.
      throw error;
    }
    writeSync(created, lineOf({ kind: "term", term, accepts, time: Date.now() }));
    fsyncSync(created);
    closeSync(created);
    syncDirectory(directory);
    return new TermFiles(directory, term, accepts, await open(file, "a"));
  }
}

export function syncDirectory(directory: string): void {
  const descriptor = openSync(directory, "r");
  fsyncSync(descriptor);
  closeSync(descriptor);
}

class TermFiles implements Store {
  readonly term: number;
  private readonly directory: string;
  private readonly accepts: readonly { readonly term: number; readonly bytes: number }[];
  private readonly file: FileHandle;
  private waiting: { readonly lines: Buffer; resolve(): void; reject(error: unknown): void }[] = [];
  private writing = false;

  constructor(directory: string, term: number, accepts: readonly { term: number; bytes: number }[], file: FileHandle) {
    this.directory = directory;
    this.term = term;
    this.accepts = accepts;
    this.file = file;
  }

  append(records: readonly DurableRecord[]): Promise<void> {
    const lines = Buffer.concat(records.map(lineOf));
    return new Promise((resolve, reject) => {
      this.waiting.push({ lines, resolve, reject });
      if (!this.writing) void this.write();
    });
  }

  *records(): Generator<DurableRecord> {
    for (const { term, bytes } of this.accepts) yield* wholeLines(join(this.directory, nameOf(term)), bytes).records;
    yield* wholeLines(join(this.directory, nameOf(this.term))).records;
  }

  async close(): Promise<void> {
    await this.file.close();
  }

  private async write(): Promise<void> {
    this.writing = true;
    while (this.waiting.length > 0) {
      const batch = this.waiting;
      this.waiting = [];
      try {
        const newest = termsIn(this.directory).at(-1) ?? this.term;
        if (newest > this.term) throw superseded(this.term, newest);
        await this.file.write(Buffer.concat(batch.map(({ lines }) => lines)));
        await this.file.datasync();
        for (const { resolve } of batch) resolve();
      } catch (error) {
        for (const { reject } of batch) reject(error);
      }
    }
    this.writing = false;
  }
}

const superseded = (term: number, newest: number) =>
  new LockstepError("LS_SUPERSEDED", `A coordinator of term ${newest} rules this run; this one (term ${term}) stops.`);
