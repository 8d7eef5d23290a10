import { copyFile, mkdir, rm, stat, statfs } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import lockfile from "proper-lockfile";
import {
  carriedFile,
  type FileFacts,
  FOLDS_FILE,
  NAMES_FILE,
  STL10_FILES,
  STL10_URL,
} from "../../shared/data/stl10.ts";
import { LockstepError } from "../../shared/errors.ts";
import { ArchiveChanged, archiveBytes, forgetArchive, keptBytes } from "./archive.ts";
import { extractFiles } from "./extract.ts";

export interface FetchProgress {
  /** Bytes of the archive at hand, and how many of them came over the network now. */
  readonly total: number;
  readonly fetched: number;
  /** About how many bytes of the archive the labelled files need. */
  readonly expected: number;
}

export interface FetchOptions {
  /** Where the files go. */
  readonly directory: string;
  readonly url?: string;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: FetchProgress) => void;
  /** Sentences for a person: what is waited for, what is complete. */
  readonly onMessage?: (message: string) => void;
  /** The files and checksums; STL-10's own by default. */
  readonly files?: readonly FileFacts[];
  readonly attempts?: number;
  readonly firstPause?: number;
  readonly silence?: number;
}

/** Photographs in gzip take about 0.845 of their size: 2.64 GB for the archive's 3.12 GB. */
const COMPRESSED = 0.845;
const WORK_FOLDER = ".fetch";
const STALE_MILLIS = 15_000;
const LONGEST_WAIT_MILLIS = 6 * 3600 * 1000;

/**
 * Fetches the labelled part of STL-10: the archive is unpacked while it arrives, and left as soon as the four labelled
 * files, which come first, are complete and have their published MD5. An interrupted fetch goes on where it stopped:
 * what was received is kept, unpacked again from the beginning, and only the rest is asked for. Of several processes
 * one works, the others wait for it.
 * @returns true where something was fetched, false where all files were there.
 * @throws LockstepError LS_FETCH_*, LS_DATA_CHECKSUM, LS_DATA_TRUNCATED, LS_DATA_ARCHIVE, LS_DISK_FULL.
 */
export async function fetchStl10(options: FetchOptions): Promise<boolean> {
  const { directory, files = STL10_FILES } = options;
  if (await isComplete(directory, files)) return false;
  const workFolder = join(directory, WORK_FOLDER);
  await mkdir(workFolder, { recursive: true });
  const lost = new AbortController();
  const signal = AbortSignal.any([lost.signal, ...(options.signal ? [options.signal] : [])]);
  const release = await lock(directory, { ...options, signal }, lost);
  try {
    if (await isComplete(directory, files)) return false;
    await mkdir(workFolder, { recursive: true });
    await checkRoom(workFolder, files);
    await fetchLocked({ ...options, signal }, files, workFolder);
    for (const name of [NAMES_FILE, FOLDS_FILE] as const) {
      if (files === STL10_FILES) await copyFile(carriedFile(name), join(directory, name));
    }
    await rm(workFolder, { recursive: true, force: true });
    return true;
  } finally {
    if (!lost.signal.aborted) await release();
  }
}

/** Whether all files are there. Files get their names only after their checksum was right, so sizes suffice. */
export async function isComplete(directory: string, files: readonly FileFacts[] = STL10_FILES): Promise<boolean> {
  for (const { name, bytes } of files) {
    const found = await stat(join(directory, name)).catch(() => null);
    if (found?.size !== bytes) return false;
  }
  return true;
}

/** Bytes of the archive that the files need, about. */
export const expectedBytes = (files: readonly FileFacts[]): number =>
  Math.round(COMPRESSED * files.reduce((sum, { bytes }) => sum + bytes, 0));

async function fetchLocked(options: FetchOptions, files: readonly FileFacts[], workFolder: string): Promise<void> {
  const { url = STL10_URL, directory, signal, onProgress, onMessage, attempts, firstPause, silence } = options;
  const partFile = join(workFolder, "archive.tar.gz.part");
  const expected = expectedBytes(files);
  const run = () =>
    extractFiles({
      archive: archiveBytes({
        url,
        partFile,
        onBytes: (total, fetched) => onProgress?.({ total, fetched, expected }),
        ...(signal && { signal }),
        ...(attempts !== undefined && { attempts }),
        ...(firstPause !== undefined && { firstPause }),
        ...(silence !== undefined && { silence }),
      }),
      files,
      workFolder,
      directory,
      onFile: ({ name }) => onMessage?.(`${name} is complete, its MD5 is right`),
    });
  const resumed = await keptBytes(partFile);
  try {
    await run();
  } catch (error) {
    if (!isSpoilt(error)) throw error;
    await forgetArchive(partFile);
    // What an earlier call had kept may have been torn or outdated: once more from the beginning.
    if (resumed === 0) throw error;
    onMessage?.("what was kept of an earlier download is of no use, beginning again");
    await run();
  }
}

/** Whether going on with the kept bytes would end in the same error. */
function isSpoilt(error: unknown): boolean {
  if (error instanceof ArchiveChanged) return true;
  return error instanceof LockstepError && /^LS_DATA_(CHECKSUM|TRUNCATED|ARCHIVE)$/.test(error.code);
}

async function lock(
  directory: string,
  { signal, onMessage }: FetchOptions,
  lost: AbortController,
): Promise<() => Promise<void>> {
  const until = Date.now() + LONGEST_WAIT_MILLIS;
  const lockfilePath = join(directory, ".fetch.lock");
  const onCompromised = (cause: Error) => {
    const message = `${lockfilePath} was taken over by another process while this one did not run.`;
    lost.abort(new LockstepError("LS_FETCH_LOCK", message, { hint: "Run the command again to go on.", cause }));
  };
  const settings = { stale: STALE_MILLIS, lockfilePath, onCompromised };
  for (let told = false; ; ) {
    try {
      return await lockfile.lock(directory, settings);
    } catch (error) {
      const held = error instanceof Error && "code" in error && error.code === "ELOCKED";
      if (!held || Date.now() > until) throw error;
    }
    if (!told) onMessage?.(`another process is fetching into ${directory}, waiting for it`);
    told = true;
    await pause(300, undefined, { signal });
  }
}

async function checkRoom(workFolder: string, files: readonly FileFacts[]): Promise<void> {
  const unpacked = files.reduce((sum, { bytes }) => sum + bytes, 0);
  const needed = unpacked + expectedBytes(files) - (await keptBytes(join(workFolder, "archive.tar.gz.part")));
  const { bavail, bsize } = await statfs(workFolder);
  if (bavail * bsize >= needed) return;
  const megabytes = (bytes: number) => `${Math.ceil(bytes / 1e6)} MB`;
  throw new LockstepError(
    "LS_DISK_FULL",
    `${workFolder} has ${megabytes(bavail * bsize)} left; the download needs ${megabytes(needed)}.`,
    { hint: "Free some space or give another directory with --dir.", exitCode: 3 },
  );
}
