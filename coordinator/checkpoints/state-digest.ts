import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";

const PIECE = 1 << 20;

/**
 * stateSha256 of summary.json: SHA-256 over the state image in a checkpoint (weights with statistics, slots, moving
 * average; the bytes behind the safetensors header), followed by the plan position as u64, little-endian.
 */
export async function stateSha256(checkpoint: string, step: number): Promise<string> {
  const hash = createHash("sha256");
  const prefix = Buffer.alloc(8);
  let seen = 0;
  let start = Number.POSITIVE_INFINITY;
  for await (const piece of createReadStream(checkpoint, { highWaterMark: PIECE })) {
    const bytes = piece as Buffer;
    if (seen < 8) {
      bytes.copy(prefix, seen, 0, 8 - seen);
      if (seen + bytes.length >= 8) start = 8 + Number(prefix.readBigUInt64LE());
    }
    if (seen + bytes.length > start) hash.update(bytes.subarray(Math.max(0, start - seen)));
    seen += bytes.length;
  }
  const position = Buffer.alloc(8);
  position.writeBigUInt64LE(BigInt(step));
  return hash.update(position).digest("hex");
}
