import { z } from "zod";

/** What the coordinator makes durable before it acts on it; one JSON line each, see term-files.ts. */
const whole = z.number().int().min(0);
const viewId = z.object({ term: whole, number: whole });
const tip = z.object({ step: whole, lineage: z.string(), stateHash: z.string() });
const range = z.object({ from: whole, to: whole });
const view = z.object({
  id: viewId,
  predecessor: viewId.nullable(),
  kind: z.enum(["train", "stop"]),
  members: z.array(
    z.object({ incarnation: z.string(), address: z.string(), shards: range, entry: z.enum(["level", "lagging", "joining"]) }),
  ),
});
const ledgerEntry = z.object({
  step: whole,
  view: viewId,
  lineage: z.string(),
  stateHash: z.string(),
  shards: z.array(
    z.object({
      shard: whole,
      idsDigest: z.string(),
      samples: whole,
      correct: whole,
      gradientDigest: z.string(),
      by: z.string(),
    }),
  ),
  loss: z.number().nullable(),
  gradientNorm: z.number().nullable(),
  applied: z.boolean(),
});

export const recordSchema = z.discriminatedUnion("kind", [
  /** First line of a term's file: how many bytes of each older file count. */
  z.object({ kind: z.literal("term"), term: whole, accepts: z.array(z.object({ term: whole, bytes: whole })), time: z.number() }),
  /** `up` started or resumed the run: rates count from here. */
  z.object({ kind: z.literal("start"), time: z.number() }),
  z.object({ kind: z.literal("first"), fingerprint: z.array(z.string()), root: z.string() }),
  z.object({ kind: z.literal("view"), view, base: tip.nullable(), reason: z.string(), time: z.number() }),
  z.object({ kind: z.literal("final"), entry: ledgerEntry, time: z.number() }),
  z.object({ kind: z.literal("truncate"), tip }),
  z.object({ kind: z.literal("checkpoint"), tip, file: z.string(), sha256: z.string(), bytes: whole }),
  z.object({ kind: z.literal("end"), outcome: z.string(), time: z.number() }),
]);

export type DurableRecord = z.infer<typeof recordSchema>;
