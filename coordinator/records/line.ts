import { crc32 } from "node:zlib";
import { LockstepError } from "../../shared/errors.ts";
import { type DurableRecord, recordSchema } from "./record.ts";

/**
 * A record as one line: CRC-32 of the rest in 8 hex digits, a space, the number of bytes of this file that were durable when
 * the line was written, a space, JSON, newline.
 *
 * After a crash the lines that were being written may be torn, missing or full of zeros in any place. A line that says
 * that the bytes before it were durable is proof that they once were whole: a bad line in front of it is damage, a bad line
 * that no later line vouches for is the crash.
 */
export function encodeLine(record: DurableRecord, durable: number): Buffer {
  const rest = Buffer.from(`${durable} ${JSON.stringify(record)}\n`);
  return Buffer.concat([Buffer.from(`${checksum(rest.subarray(0, -1))} `), rest]);
}

export interface Line {
  readonly durable: number;
  /** JSON of the record. */
  readonly text: Buffer;
}

/** A line without its newline; null where it is not what was written. */
export function decodeLine(line: Buffer): Line | null {
  if (line[8] !== SPACE) return null;
  const rest = line.subarray(9);
  if (line.toString("latin1", 0, 8) !== checksum(rest)) return null;
  const space = rest.indexOf(SPACE);
  return { durable: Number(rest.toString("latin1", 0, space)), text: rest.subarray(space + 1) };
}

/** @throws LockstepError LS_RECORDS_FORMAT for a whole line that this version cannot read */
export function parseRecord(text: Buffer, file: string): DurableRecord {
  try {
    return recordSchema.parse(JSON.parse(text.toString("utf8")));
  } catch (cause) {
    throw new LockstepError("LS_RECORDS_FORMAT", `${file} holds a record of another version of Lockstep.`, {
      hint: "Go on with the version that began this run.",
      cause,
    });
  }
}

const SPACE = 32;
const checksum = (bytes: Buffer) => crc32(bytes).toString(16).padStart(8, "0");
