import { z } from "zod";

const whole = z.number().int().min(0).max(0xffffffff);
const viewId = z.strictObject({ term: whole, number: whole });
const digest = z.string().regex(/^[0-9a-f]{16}$/);

/** A trailer as it comes from a peer. */
export const trailerSchema = z.strictObject({
  view: viewId,
  step: whole,
  from: z.string().regex(/^[0-9a-f]{16}$/),
  level: z.boolean(),
  lineage: z.union([z.literal(""), z.string().regex(/^[0-9a-f]{64}$/)]),
  stateHash: z.union([z.literal(""), digest]),
  shards: z
    .array(z.strictObject({ shard: whole, idsDigest: digest, samples: whole, correct: whole, gradientDigest: digest }))
    .max(65536),
  plan: viewId.nullable(),
});
