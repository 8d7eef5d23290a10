import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { LockstepError } from "../../shared/errors.ts";
import { AppendLog, type AppendOptions } from "./append-log.ts";
import { decodeLine, type Line, parseRecord } from "./line.ts";
import type { Accepted, DurableRecord } from "./record.ts";
import { type AppendFile, directoryFiles, type RecordFiles } from "./record-files.ts";

/**
 * The records of a run in its directory: who rules, and what counts.
 *
 * Every term has a file of its own, records/term-<n>.ndjson, which one coordinator created exclusively. Its first line
 * says how much of each older file counts, by length and hash; what an older coordinator appends later does not. Two
 * orders make that safe: a new term *first* creates its file, *then* reads the older ones; a coordinator *first* flushes a
 * record, *then* looks for a newer term's file, and acts only if there is none. So whatever an older coordinator acted on
 * was in its file before the newer one read it. (The file system must show a created file to all at once: local disks do,
 * NFS does not promise it.)
 */
export interface Store {
  readonly term: number;
  /**
   * Resolves when the records are on the disk and this term still rules. Records of calls in flight share one flush.
   * @throws LockstepError LS_SUPERSEDED, LS_RECORDS_WRITE
   */
  append(records: readonly DurableRecord[]): Promise<void>;
  /** All records that count, oldest first, as far as they are on the disk. */
  records(): Generator<DurableRecord>;
  /** @throws LockstepError LS_SUPERSEDED */
  checkRuling(): void;
  close(): Promise<void>;
}

export interface StoreOptions {
  /** The disk is full and the records wait for room, or they have it again. */
  readonly onStall?: (stalled: boolean) => void;
  /** How long to wait for room on a full disk, and between tries, in milliseconds. */
  readonly patience?: number;
  readonly retryEvery?: number;
}

const nameOf = (term: number) => `term-${term}.ndjson`;
const PIECE = 1 << 18;
const MOST_TRIES = 1000;

/**
 * Takes the next term: the one file that nobody else could create.
 * @throws LockstepError LS_RECORDS_DAMAGED, LS_RECORDS_FORMAT, LS_SUPERSEDED where another one was faster still
 */
export async function takeTerm(place: string | RecordFiles, options: StoreOptions = {}): Promise<Store> {
  const files = typeof place === "string" ? directoryFiles(place) : place;
  const { term, file } = await createNext(files);
  try {
    return await rule(files, term, file, options);
  } catch (error) {
    await file.close();
    throw error;
  }
}

async function rule(files: RecordFiles, term: number, file: AppendFile, options: StoreOptions): Promise<Store> {
  const accepts = acceptedFiles(files, term);
  const fence = () => {
    const newest = termsIn(files).at(-1) ?? term;
    if (newest > term) throw superseded(term, newest);
  };
  const append: AppendOptions = {
    fence,
    retryEvery: options.retryEvery ?? 1000,
    patience: options.patience ?? 600_000,
    onStall: options.onStall ?? (() => {}),
  };
  const log = new AppendLog(file, append);
  files.syncNames();
  await log.append([{ kind: "term", term, accepts, time: Date.now() }]);
  return {
    term,
    append: (records) => log.append(records),
    *records() {
      yield* recordsOf(files, [...accepts, { term, bytes: log.durable }]);
    },
    checkRuling: fence,
    close: () => log.close(),
  };
}

/** The records that count in a directory, without taking a term: for readers. */
export function* readRecords(place: string | RecordFiles): Generator<DurableRecord> {
  if (typeof place === "string" && !existsSync(place)) return;
  const files = typeof place === "string" ? directoryFiles(place) : place;
  const accepted = chainOf(files, Number.POSITIVE_INFINITY);
  if (accepted !== null) yield* recordsOf(files, accepted);
}

async function createNext(files: RecordFiles): Promise<{ readonly term: number; readonly file: AppendFile }> {
  for (let tries = 0; ; tries++) {
    const term = (termsIn(files).at(-1) ?? 0) + 1;
    try {
      return { term, file: await files.create(nameOf(term)) };
    } catch (error) {
      // Somebody else took it.
      if ((error as NodeJS.ErrnoException).code !== "EEXIST" || tries === MOST_TRIES) throw error;
    }
  }
}

const termsIn = (files: RecordFiles): number[] =>
  files
    .names()
    .map((name) => /^term-(\d+)\.ndjson$/.exec(name)?.[1])
    .filter((term) => term !== undefined)
    .map(Number)
    .sort((a, b) => a - b);

/** What counts for a new term, made durable: a crash of the machine must not take back what the new term accepts. */
function acceptedFiles(files: RecordFiles, below: number): Accepted[] {
  const chain = chainOf(files, below);
  const newest = chain?.at(-1);
  if (chain === null || newest === undefined) return [];
  files.sync(nameOf(newest.term));
  const older = chain.slice(0, -1) as Accepted[];
  return [...older, { ...newest, sha256: sha256Of(files, nameOf(newest.term), newest.bytes) }];
}

interface Extent {
  readonly term: number;
  readonly bytes: number;
  /** Absent for the newest file, which nobody has closed off yet. */
  readonly sha256?: string;
}

/** The newest file with a valid first line decides about the older ones; of itself it counts as far as it is whole. */
function chainOf(files: RecordFiles, below: number): Extent[] | null {
  const terms = termsIn(files).filter((term) => term < below);
  for (const term of terms.reverse()) {
    const name = nameOf(term);
    let first: DurableRecord | null = null;
    let bytes = 0;
    for (const { text, end } of wholeLines(files, name, files.size(name))) {
      first ??= parseRecord(text, files.describe(name));
      bytes = end;
    }
    // A term that died before its first line never ruled.
    if (first?.kind !== "term") continue;
    for (const extent of first.accepts) verify(files, extent);
    return [...first.accepts, { term, bytes }];
  }
  return null;
}

function verify(files: RecordFiles, { term, bytes, sha256 }: Accepted): void {
  const name = nameOf(term);
  if (!files.names().includes(name)) throw damaged(`${files.describe(name)} is missing.`);
  const size = files.size(name);
  if (size < bytes) throw damaged(`${files.describe(name)} has ${size} bytes where ${bytes} count.`);
  if (sha256Of(files, name, bytes) !== sha256) {
    throw damaged(`${files.describe(name)} was changed: its first ${bytes} bytes are not what a later term accepted.`);
  }
}

function* recordsOf(files: RecordFiles, extents: readonly Extent[]): Generator<DurableRecord> {
  for (const { term, bytes } of extents) {
    const name = nameOf(term);
    for (const { text } of wholeLines(files, name, bytes)) yield parseRecord(text, files.describe(name));
  }
}

/**
 * Lines of the first `limit` bytes, up to the torn end that a crash may have left, with where each ends.
 * @throws LockstepError LS_RECORDS_DAMAGED for a bad line in front of bytes that were durable
 */
function* wholeLines(files: RecordFiles, name: string, limit: number): Generator<Line & { readonly end: number }> {
  let torn: number | null = null;
  for (const { line, start, complete } of linesOf(files, name, limit)) {
    const decoded = complete ? decodeLine(line) : null;
    if (decoded === null) torn ??= start;
    else if (torn === null) yield { ...decoded, end: start + line.length + 1 };
    else if (decoded.durable > torn) {
      throw damaged(`${files.describe(name)} is damaged at byte ${torn}: a record there does not match its checksum.`);
    }
  }
}

interface RawLine {
  readonly line: Buffer;
  readonly start: number;
  /** False for what follows the last newline. */
  readonly complete: boolean;
}

function* linesOf(files: RecordFiles, name: string, limit: number): Generator<RawLine> {
  const piece = Buffer.alloc(PIECE);
  let rest = Buffer.alloc(0);
  let restStart = 0;
  for (let at = 0; at < limit; ) {
    const bytes = files.read(name, at, piece.subarray(0, Math.min(PIECE, limit - at)));
    if (bytes === 0) break;
    at += bytes;
    const content = Buffer.concat([rest, piece.subarray(0, bytes)]);
    let from = 0;
    for (let newline = content.indexOf(10); newline >= 0; newline = content.indexOf(10, from)) {
      yield { line: content.subarray(from, newline), start: restStart + from, complete: true };
      from = newline + 1;
    }
    rest = Buffer.from(content.subarray(from));
    restStart += from;
  }
  if (rest.length > 0) yield { line: rest, start: restStart, complete: false };
}

function sha256Of(files: RecordFiles, name: string, bytes: number): string {
  const hash = createHash("sha256");
  const piece = Buffer.alloc(PIECE);
  for (let at = 0; at < bytes; ) {
    const count = files.read(name, at, piece.subarray(0, Math.min(PIECE, bytes - at)));
    if (count === 0) break;
    hash.update(piece.subarray(0, count));
    at += count;
  }
  return hash.digest("hex");
}

const damaged = (what: string) =>
  new LockstepError("LS_RECORDS_DAMAGED", what, {
    hint: "Restore the file from a backup, or start a new run.",
  });

const superseded = (term: number, newest: number) =>
  new LockstepError("LS_SUPERSEDED", `A coordinator of term ${newest} rules this run; this one (term ${term}) stops.`);
