import { z } from "zod";
import type { LedgerEntry } from "../../shared/protocol/trailer.ts";
import type { Incarnation, Tip, View } from "../../shared/protocol/view.ts";
import type { Validation } from "../machine/validate.ts";

/** What the coordinator makes durable before it acts on it. Times in milliseconds since 1970. */
const whole = z.number().int().min(0);
const hex = (digits: number) => z.string().regex(new RegExp(`^[0-9a-f]{${digits}}$`));
const lineage = hex(64);
const stateHash = z.string().regex(/^([0-9a-f]{16})?$/);

const viewIdSchema = z.object({ term: whole, number: whole });
/** Lineage and hash are empty where a tip is only a number of steps. */
const tipSchema = z.object({ step: whole, lineage: z.string().regex(/^([0-9a-f]{64})?$/), stateHash });
const rangeSchema = z.object({ from: whole, to: whole });
const viewSchema = z.object({
  id: viewIdSchema,
  predecessor: viewIdSchema.nullable(),
  kind: z.enum(["train", "stop"]),
  members: z.array(
    z.object({
      incarnation: z.string(),
      address: z.string(),
      shards: rangeSchema,
      entry: z.enum(["level", "lagging", "joining"]),
    }),
  ),
});

/** How much of an older term's file counts, by its length in bytes and the SHA-256 of them. */
const acceptedSchema = z.object({ term: whole, bytes: whole, sha256: hex(64) });

/** A ledger entry: digests of all shards as one string, what is equal for neighbouring shards once. */
const finalSchema = z.object({
  kind: z.literal("final"),
  step: whole,
  view: z.tuple([whole, whole]),
  lineage,
  state: stateHash,
  /** Digests of sample ids and of gradients, 16 hex digits for each shard in turn. */
  ids: z.string(),
  gradients: z.string(),
  samples: z.array(whole),
  correct: z.array(whole),
  /** Incarnation and number of shards, in shard order. */
  by: z.array(z.tuple([z.string(), whole])),
  /** null stands for a number that is not finite. */
  loss: z.number().nullable(),
  norm: z.number().nullable(),
  applied: z.boolean(),
  time: z.number(),
});

const checkpointSchema = z.object({
  kind: z.literal("checkpoint"),
  tip: tipSchema,
  file: z.string(),
  sha256: hex(64),
  bytes: whole,
  /** Mean training loss of the steps since the checkpoint before; null where none was finite. */
  loss: z.number().nullable(),
});

const factsSchema = z.object({
  parameters: z.number(),
  weightBytes: z.number(),
  stateBytes: z.number(),
  sections: z.array(z.object({ name: z.string(), floats: z.number() })),
});

export const recordSchema = z.discriminatedUnion("kind", [
  /** First line of a term's file: how much of each older file counts. */
  z.object({ kind: z.literal("term"), term: whole, accepts: z.array(acceptedSchema), time: z.number() }),
  /** A person started or resumed the run: rates count from here, an earlier stop does not. */
  z.object({ kind: z.literal("start"), time: z.number() }),
  /** Fingerprint, root and model of the first worker: what all others must have. */
  z.object({ kind: z.literal("first"), fingerprint: z.array(z.string()), root: z.string(), facts: factsSchema }),
  /** A view about to be installed (with its base) or announced (without). */
  z.object({
    kind: z.literal("view"),
    view: viewSchema,
    base: tipSchema.nullable(),
    reason: z.string(),
    time: z.number(),
  }),
  finalSchema,
  /** Final steps from this one on do not count any more. */
  z.object({
    kind: z.literal("truncate"),
    tip: tipSchema,
    /** The run ended at this step, its best; what was found of later ones stays known. */
    keepsValidations: z.literal(true).optional(),
  }),
  checkpointSchema,
  /** Right predictions of held-out images with the state of this step; samples is 0 where it could not be validated. */
  z.object({
    kind: z.literal("validation"),
    step: whole,
    /** Empty where nobody was left who knew it. */
    lineage: z.string().regex(/^([0-9a-f]{64})?$/),
    samples: whole,
    correct: whole,
    /** Sum over the images in nats; null where it is not finite. */
    loss: z.number().nullable(),
    time: z.number(),
  }),
  /** A member was lost unplanned. */
  z.object({ kind: z.literal("loss"), worker: z.string(), why: z.string(), time: z.number() }),
  z.object({ kind: z.literal("stop"), reason: z.string(), time: z.number() }),
  z.object({
    kind: z.literal("end"),
    outcome: z.enum(["done", "stopped", "failed"]),
    /** Why it stopped or failed; a failure's code. */
    message: z.string(),
    code: z.string().nullable(),
    time: z.number(),
  }),
]);

export type DurableRecord = z.infer<typeof recordSchema>;
export type RecordOf<Kind extends DurableRecord["kind"]> = Extract<DurableRecord, { readonly kind: Kind }>;
export type Accepted = z.infer<typeof acceptedSchema>;

/** A recorded checkpoint, as manifest.json shows it. */
export interface CheckpointRecord {
  readonly tip: Tip;
  /** Name in checkpoints/. */
  readonly file: string;
  readonly sha256: string;
  readonly bytes: number;
  readonly loss: number | null;
}

const finite = (value: number) => (Number.isFinite(value) ? value : null);

/** A ledger entry in its compact form. Its shards are in order and complete (see malformedEntry). */
export function finalRecord(entry: LedgerEntry, time: number): RecordOf<"final"> {
  const by: [string, number][] = [];
  for (const shard of entry.shards) {
    const last = by.at(-1);
    if (last !== undefined && last[0] === shard.by) last[1] += 1;
    else by.push([shard.by, 1]);
  }
  return {
    kind: "final",
    step: entry.step,
    view: [entry.view.term, entry.view.number],
    lineage: entry.lineage,
    state: entry.stateHash,
    ids: entry.shards.map((shard) => shard.idsDigest).join(""),
    gradients: entry.shards.map((shard) => shard.gradientDigest).join(""),
    samples: entry.shards.map((shard) => shard.samples),
    correct: entry.shards.map((shard) => shard.correct),
    by,
    loss: finite(entry.loss),
    norm: finite(entry.gradientNorm),
    applied: entry.applied,
    time,
  };
}

/** A validation. Its loss may be no number, where the model's weights have diverged. */
export const validationRecord = ({ loss, ...rest }: Validation, time: number): RecordOf<"validation"> => ({
  ...{ kind: "validation", ...rest, loss: finite(loss), time },
});

/** The digest of one shard in a final record's string of all of them. */
export const digestOf = (digests: string, shard: number): string => digests.slice(16 * shard, 16 * shard + 16);

/** The ledger entry that a record holds. */
export function entryOf(record: RecordOf<"final">): LedgerEntry {
  const by = record.by.flatMap(([incarnation, count]) => Array<Incarnation>(count).fill(incarnation as Incarnation));
  const [term, number] = record.view;
  return {
    step: record.step,
    view: { term, number },
    lineage: record.lineage,
    stateHash: record.state,
    shards: record.samples.map((samples, shard) => ({
      shard,
      idsDigest: digestOf(record.ids, shard),
      samples,
      correct: record.correct[shard] ?? 0,
      gradientDigest: digestOf(record.gradients, shard),
      by: by[shard] ?? ("" as Incarnation),
    })),
    loss: record.loss ?? Number.NaN,
    gradientNorm: record.norm ?? Number.NaN,
    applied: record.applied,
  };
}

const HEX16 = /^[0-9a-f]{16}$/;
const HEX64 = /^[0-9a-f]{64}$/;
const isCount = (value: number) => Number.isSafeInteger(value) && value >= 0;

/**
 * What is wrong with an entry that came from outside, null where it can be recorded.
 * @param shards V
 */
export function malformedEntry(entry: LedgerEntry, shards: number): string | null {
  if (!isCount(entry.step)) return `a ledger entry has the step ${entry.step}`;
  if (entry.view === null) return `the entry of step ${entry.step} names no view`;
  if (!HEX64.test(entry.lineage)) return `the lineage of step ${entry.step} is no SHA-256`;
  // A step that was committed last has no hash yet; the hash comes with the final entry.
  if (entry.stateHash !== "" && !HEX16.test(entry.stateHash))
    return `the state hash of step ${entry.step} is malformed`;
  if (entry.shards.length !== shards)
    return `the entry of step ${entry.step} has ${entry.shards.length} shards of ${shards}`;
  for (const [index, shard] of entry.shards.entries()) {
    if (shard.shard !== index) return `the entry of step ${entry.step} has shard ${shard.shard} in place of ${index}`;
    const digests = HEX16.test(shard.idsDigest) && HEX16.test(shard.gradientDigest);
    if (!digests || !isCount(shard.samples) || !isCount(shard.correct)) {
      return `shard ${index} of step ${entry.step} is malformed`;
    }
  }
  return null;
}

/** The view of a record, as the machine knows it. */
export const viewOf = (record: RecordOf<"view">): View => record.view as unknown as View;
