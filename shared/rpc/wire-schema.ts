import { z } from "zod";
import { MOST_REVOKED } from "../security/revocation.ts";
import { MOST_ENTRIES, MOST_LABELS, MOST_MEMBERS, MOST_SHARDS, MOST_TEXT } from "./bounds.ts";

/**
 * What must hold of the messages of proto/lockstep.proto beyond their types, as proto-loader yields them: every field is
 * there, absent messages are null. Bounds keep a broken or hostile peer from filling memory.
 */
const text = z.string().max(MOST_TEXT);
const whole = z.number().int().min(0).max(0xffffffff);
const count = z.number().min(0);
/** Loss and norm may be anything that a float can be: such steps are recorded as not applied. */
const float = z.custom<number>((value) => typeof value === "number");

const incarnation = z.string().regex(/^[0-9a-f]{16}$/);
const digest = z.string().regex(/^[0-9a-f]{16}$/);
const lineage = z.union([z.literal(""), z.string().regex(/^[0-9a-f]{64}$/)]);
const stateHash = z.union([z.literal(""), digest]);
const address = z
  .string()
  .regex(/^.+:\d{1,5}$/)
  .max(300);

const viewId = z.strictObject({ term: whole, number: whole });
const shardRange = z
  .strictObject({ from: whole, to: whole })
  .refine(({ from, to }) => from <= to, "a range ends before it begins");
const tip = z.strictObject({ step: whole, lineage, stateHash });
const member = z.strictObject({
  incarnation,
  address,
  shards: shardRange,
  entry: z.enum(["level", "lagging", "joining"]),
});
const view = z.strictObject({
  id: viewId,
  predecessor: viewId.nullable(),
  kind: z.enum(["train", "stop"]),
  members: z.array(member).max(MOST_MEMBERS),
});
const shard = z.strictObject({
  shard: whole,
  idsDigest: digest,
  samples: whole,
  correct: whole,
  gradientDigest: digest,
  by: incarnation,
});
const entrySchema = z.strictObject({
  step: whole,
  view: viewId,
  lineage,
  stateHash,
  shards: z.array(shard).max(MOST_SHARDS),
  loss: float,
  gradientNorm: float,
  applied: z.boolean(),
});
const entries = z.array(entrySchema).max(MOST_ENTRIES);
const standing = z.strictObject({ tip, whole: z.boolean(), view: viewId.nullable(), entries });
const facts = z.strictObject({
  parameters: count,
  weightBytes: count,
  stateBytes: count,
  sections: z.array(z.strictObject({ name: text, floats: count })).max(16),
});
const peerState = z.strictObject({ incarnation, level: z.boolean(), lineage, stateHash });
const progress = z.strictObject({
  view: viewId.nullable(),
  step: whole,
  phase: z.enum(["loading", "waiting", "compute", "exchange", "update", "idle", "evaluate"]),
  stepMillis: count,
  level: z.boolean(),
  shardMillis: count,
  images: count,
  residentBytes: count,
  peers: z.array(z.strictObject({ incarnation, owed: count, received: count })).max(MOST_MEMBERS),
});
const labels = z
  .record(z.string().max(100), text)
  .refine((values) => Object.keys(values).length <= MOST_LABELS, "too many labels");

const message = <Kind extends string, Shape extends z.ZodRawShape>(kind: Kind, shape: Shape) =>
  z.strictObject({ kind: z.literal(kind), ...shape });

/** The reply to PullEntries. */
export const entriesSchema = message("entries", { lineage, entries });

export const workerMessageSchema = z.discriminatedUnion("kind", [
  message("hello", {
    incarnation,
    name: text,
    host: text,
    pid: whole,
    version: text,
    address,
    httpAddress: z.union([z.literal(""), address]),
    labels,
    promised: viewId.nullable(),
    standing: standing.nullable(),
  }),
  message("ready", { fingerprint: z.array(text).max(64), root: text, standing, facts }),
  message("heartbeat", { progress }),
  message("answer", { id: viewId, standing }),
  message("refuse", { id: viewId, promised: viewId }),
  message("switched", { id: viewId, step: whole }),
  message("final", { entries }),
  message("mismatch", {
    view: viewId,
    step: whole,
    states: z.array(peerState).max(MOST_MEMBERS),
    corruptFrom: incarnation.nullable(),
  }),
  message("lost", { view: viewId, peer: incarnation, refused: z.boolean() }),
  message("idle", { view: viewId, standing }),
  message("restored", { standing }),
  message("snapshot", { tip, bytes: count }),
  message("evaluated", { batch: whole }),
  message("held", { tip, bytes: count }),
  message("validated", { step: whole, batch: whole, samples: whole, correct: whole, loss: float }),
  message("leaving", { reason: text }),
  message("failed", { code: text, message: text }),
  message("dialled", { incarnation, failure: text }),
]);

/** The config in `welcome` is checked by its own schema. */
export const coordinatorMessageSchema = z.discriminatedUnion("kind", [
  message("welcome", { term: whole, config: z.unknown(), fingerprint: z.array(text).max(64).nullable() }),
  message("rejected", { code: text, message: text }),
  message("heartbeat", { term: whole, recorded: whole }),
  message("prepare", { id: viewId }),
  message("install", { view, base: tip }),
  message("plan", { view }),
  message("restore", { tip }),
  message("snapshot", {}),
  message("discard", { step: whole }),
  message("evaluate", { batches: z.array(whole).max(1 << 20) }),
  message("validate", { step: whole, batch: whole }),
  message("validationDone", { step: whole }),
  message("release", { reason: text }),
  message("inject", { fault: text }),
  message("dial", { incarnation, address }),
  message("access", {
    revoked: z.array(z.string().regex(/^[0-9a-fA-F]{1,64}$/)).max(MOST_REVOKED),
    nats: z.strictObject({ user: text, password: text, authority: text }).nullable(),
    httpToken: text,
  }),
]);
