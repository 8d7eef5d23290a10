import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { LockstepError } from "../../shared/errors.ts";
import type { PredictedBatch } from "../../worker/evaluation/predictions.ts";

const whole = z.number().int().min(0);
const headerSchema = z.object({
  from: whole,
  samples: whole,
  classes: whole,
  mapHeight: whole,
  mapWidth: whole,
  plain: z.boolean().describe("Whether logits without flip averaging follow"),
});

/**
 * One file of report/predictions, as the coordinator stores what a worker predicted: u32 length of a JSON header, the
 * header, then float32 little-endian logits [samples, classes], maybe such plain logits, and maps [samples, 2, mapHeight, mapWidth].
 * @throws LockstepError LS_EVALUATION_FILE where it is something else.
 */
export function decodeBatch(bytes: Uint8Array, file: string): PredictedBatch {
  const damaged = (what: string, cause?: unknown) =>
    new LockstepError("LS_EVALUATION_FILE", `${file} does not hold predictions: ${what}.`, { cause });
  if (bytes.length < 4) throw damaged("it is cut off");
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  if (4 + length > bytes.length) throw damaged("its header is cut off");
  let head: z.infer<typeof headerSchema>;
  try {
    head = headerSchema.parse(JSON.parse(Buffer.from(bytes.subarray(4, 4 + length)).toString("utf8")));
  } catch (cause) {
    throw damaged("its header is wrong", cause);
  }
  // A copy, which starts at an address that floats may have.
  const data = new Uint8Array(bytes.subarray(4 + length));
  const { plain, ...header } = head;
  const logits = header.samples * header.classes;
  const plainEnd = plain ? 2 * logits : logits;
  const expected = 4 * (plainEnd + header.samples * 2 * header.mapHeight * header.mapWidth);
  if (data.length !== expected) throw damaged(`${data.length} bytes follow its header, not ${expected}`);
  const floats = new Float32Array(data.buffer);
  return {
    ...header,
    logits: floats.slice(0, logits),
    plainLogits: floats.slice(logits, plainEnd),
    maps: floats.slice(plainEnd),
  };
}

/** All batches that a directory holds, in any order. */
export function* readBatches(directory: string): Generator<PredictedBatch> {
  for (const name of readdirSync(directory)) {
    if (name.endsWith(".bin")) yield decodeBatch(readFileSync(join(directory, name)), join(directory, name));
  }
}
