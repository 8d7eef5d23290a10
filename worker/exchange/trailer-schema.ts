import { z } from "zod";
import { LockstepError } from "../../shared/errors.ts";
import type { Trailer } from "../../shared/protocol/trailer.ts";
import { type Incarnation, sameView } from "../../shared/protocol/view.ts";
import type { Chunk } from "./chunk.ts";

const whole = z.number().int().min(0).max(0xffffffff);
const viewId = z.strictObject({ term: whole, number: whole });
const digest = z.string().regex(/^[0-9a-f]{16}$/);

const trailerSchema = z.strictObject({
  view: viewId,
  step: whole,
  from: digest,
  level: z.boolean(),
  lineage: z.union([z.literal(""), z.string().regex(/^[0-9a-f]{64}$/)]),
  stateHash: z.union([z.literal(""), digest]),
  shards: z
    .array(z.strictObject({ shard: whole, idsDigest: digest, samples: whole, correct: whole, gradientDigest: digest }))
    .max(65536),
  plan: viewId.nullable(),
});

/** The trailer in a chunk that came from `from`. @throws LockstepError LS_TRAILER where it is not one of that member's */
export function parseTrailer(chunk: Chunk, from: Incarnation): Trailer {
  const trailer = read(chunk.payload.toString());
  if (trailer.from !== from || trailer.step !== chunk.step || !sameView(trailer.view, chunk.view)) {
    throw new LockstepError("LS_TRAILER", `A trailer of ${trailer.from} came from ${from}, or names another step.`);
  }
  return trailer;
}

function read(text: string): Trailer {
  try {
    return trailerSchema.parse(JSON.parse(text)) as unknown as Trailer;
  } catch (cause) {
    throw new LockstepError("LS_TRAILER", "A trailer does not fit this version's schema.", { cause });
  }
}
