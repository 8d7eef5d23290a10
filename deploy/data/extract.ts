import { createHash } from "node:crypto";
import { open, rename } from "node:fs/promises";
import { basename, join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGunzip } from "node:zlib";
import tar from "tar-stream";
import type { FileFacts } from "../../shared/data/stl10.ts";
import { LockstepError, sentenceOf } from "../../shared/errors.ts";

export interface Extraction {
  /** The compressed archive from its beginning. It is closed as soon as the last wanted file is complete. */
  readonly archive: AsyncGenerator<Uint8Array>;
  readonly files: readonly FileFacts[];
  /** Where files grow, and where they move once their checksum is right. Both on one file system. */
  readonly workFolder: string;
  readonly directory: string;
  readonly onFile?: (file: FileFacts) => void;
}

/**
 * Unpacks the wanted files of a tar.gz as it arrives and stops behind the last of them.
 * @throws LockstepError LS_DATA_CHECKSUM, LS_DATA_TRUNCATED or LS_DATA_ARCHIVE.
 */
export async function extractFiles(extraction: Extraction): Promise<void> {
  const wanted = new Map(extraction.files.map((file) => [file.name, file]));
  const gunzip = createGunzip();
  const extract = tar.extract();
  const flow = pipeline(Readable.from(extraction.archive, { objectMode: false }), gunzip, extract);
  // Whatever fails in the flow also ends the loop below, which throws it; stopping early fails the flow in turn.
  const ended = flow.catch(() => undefined);
  try {
    for await (const entry of extract) {
      const file = wanted.get(basename(entry.header.name));
      if (file === undefined || entry.header.type !== "file") {
        entry.resume();
        continue;
      }
      await store(entry as AsyncIterable<Uint8Array>, file, extraction);
      wanted.delete(file.name);
      extraction.onFile?.(file);
      if (wanted.size === 0) return;
    }
  } catch (error) {
    throw archiveError(error, gunzip.bytesWritten);
  } finally {
    extract.destroy();
    await ended;
    await extraction.archive.return(undefined);
  }
  throw new LockstepError("LS_DATA_ARCHIVE", `The archive ends without ${[...wanted.keys()].join(", ")}.`, {
    hint: "Check the address: it should be that of stl10_binary.tar.gz.",
    exitCode: 3,
  });
}

async function store(entry: AsyncIterable<Uint8Array>, file: FileFacts, extraction: Extraction): Promise<void> {
  const temporary = join(extraction.workFolder, file.name);
  const hash = createHash("md5");
  const output = await open(temporary, "w");
  let bytes = 0;
  try {
    for await (const chunk of entry) {
      hash.update(chunk);
      await output.appendFile(chunk);
      bytes += chunk.length;
    }
    await output.sync();
  } finally {
    await output.close();
  }
  if (bytes < file.bytes) {
    throw new LockstepError(
      "LS_DATA_TRUNCATED",
      `${file.name} ends at byte ${bytes} in the archive; ${file.bytes} bytes are expected.`,
      { hint: "The archive is another one; give its address with --url.", exitCode: 3 },
    );
  }
  const md5 = hash.digest("hex");
  if (md5 !== file.md5) throw wrongChecksum(file.name, bytes, md5, file.md5);
  await rename(temporary, join(extraction.directory, file.name));
}

/** A file whose bytes are not the published ones. */
export function wrongChecksum(file: string, bytes: number, md5: string, expected: string): LockstepError {
  return new LockstepError("LS_DATA_CHECKSUM", `${file}: bytes 0 to ${bytes} have MD5 ${md5} instead of ${expected}.`, {
    hint: "Fetch it again (`npx lockstep data fetch`); if it stays, the source is damaged or another data set.",
    exitCode: 3,
  });
}

function archiveError(error: unknown, at: number): unknown {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  const isArchive = code.startsWith("Z_") || (error instanceof Error && /tar header|end of data/i.test(error.message));
  if (!isArchive) return error;
  return new LockstepError(
    "LS_DATA_ARCHIVE",
    `The archive cannot be unpacked around byte ${at}: ${sentenceOf(error)}.`,
    {
      hint: "What was kept of it is deleted; run the command again, or give another address with --url.",
      exitCode: 3,
      cause: error,
    },
  );
}
