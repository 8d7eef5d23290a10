import type { Incarnation, ViewId } from "./view.ts";

/** What one shard contributed to a step, as integers and digests. */
export interface ShardRecord {
  readonly shard: number;
  /** 16 hex digits: hash of the sample ids that reached the device, in order. */
  readonly idsDigest: string;
  readonly samples: number;
  readonly correct: number;
  /** 16 hex digits: gradientDigest of the shard's gradient, for `lockstep diff`. */
  readonly gradientDigest: string;
}

/** Sent by every member of a view to all others with its last bucket of a step. */
export interface Trailer {
  readonly view: ViewId;
  readonly step: number;
  readonly from: Incarnation;
  /** False until a joining or lagging member has shown the common hash: its hash then does not count. */
  readonly level: boolean;
  /** The chain up to this step, hex SHA-256. */
  readonly lineage: string;
  /** Hash of the state on which this step was computed, taken after the last backward pass. */
  readonly stateHash: string;
  readonly shards: readonly ShardRecord[];
  /** Id of a planned view that this member has received inside this view. */
  readonly plan: ViewId | null;
}

/** What a step's shards come to. */
export function tallyOf(shards: readonly Pick<ShardRecord, "samples" | "correct">[]) {
  let images = 0;
  let correct = 0;
  for (const shard of shards) {
    images += shard.samples;
    correct += shard.correct;
  }
  return { images, correct, accuracy: images === 0 ? 0 : correct / images };
}

/** One final step, as it enters the ledger. */
export interface LedgerEntry {
  readonly step: number;
  /** The view that committed it. */
  readonly view: ViewId;
  /** The chain after this step. */
  readonly lineage: string;
  /** Hash of the state after this step. */
  readonly stateHash: string;
  /** In shard order, all V of them, with the member that computed each. */
  readonly shards: readonly (ShardRecord & { readonly by: Incarnation })[];
  /** Mean loss over the step's samples. */
  readonly loss: number;
  /** L2 norm of the mean gradient. */
  readonly gradientNorm: number;
  /** False where loss or norm was not finite and the update was the identity. */
  readonly applied: boolean;
}
