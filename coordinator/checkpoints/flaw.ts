import { createHash } from "node:crypto";
import type { CheckpointRecord } from "../records/record.ts";
import type { CheckpointFiles } from "./checkpoint-files.ts";

/** What is wrong with the file of a recorded checkpoint; null where it is, byte for byte, what was recorded. */
export async function flawOf(
  files: CheckpointFiles,
  { file, bytes, sha256 }: Pick<CheckpointRecord, "file" | "bytes" | "sha256">,
): Promise<string | null> {
  const found = files.look(file);
  if (found === null) return "it is missing";
  if (found.bytes !== bytes) return `it has ${found.bytes} bytes instead of ${bytes}`;
  const hash = createHash("sha256");
  for await (const piece of files.read(file, 0, bytes)) hash.update(piece);
  return hash.digest("hex") === sha256 ? null : "its SHA-256 is not the recorded one";
}

/**
 * The newest recorded checkpoint without a flaw.
 * @param recorded oldest first
 * @param before most steps that it may have
 */
export async function newestSound(
  files: CheckpointFiles,
  recorded: readonly CheckpointRecord[],
  before = Number.POSITIVE_INFINITY,
): Promise<CheckpointRecord | null> {
  for (const record of recorded.toReversed()) {
    if (record.tip.step <= before && (await flawOf(files, record)) === null) return record;
  }
  return null;
}
