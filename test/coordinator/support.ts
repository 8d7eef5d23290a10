import { afterEach, expect } from "vitest";
import { StateHash } from "../../coordinator/checkpoints/state-hash.ts";
import type { DurableRecord } from "../../coordinator/records/record.ts";
import { type Store, takeTerm } from "../../coordinator/records/term-files.ts";
import { LockstepError } from "../../shared/errors.ts";
import type { ShardRange } from "../../shared/plan/tree.ts";
import type { ModelFacts, WorkerMessage } from "../../shared/protocol/messages.ts";
import type { LedgerEntry } from "../../shared/protocol/trailer.ts";
import type { Incarnation, Tip } from "../../shared/protocol/view.ts";
import { temporary as temporaryFolder } from "../temporary.ts";

/** A new folder that is deleted after the tests of a file. */
export const temporary = (): string => temporaryFolder("coordinator");

const stores: Store[] = [];
afterEach(async () => {
  for (const store of stores.splice(0)) await store.close();
});

/** The next term, closed after the test. */
export async function nextTerm(...of: Parameters<typeof takeTerm>): Promise<Store> {
  const store = await takeTerm(...of);
  stores.push(store);
  return store;
}

/** The code of what `action` throws or rejects with; fails where it does not. */
export async function codeOf(action: () => unknown): Promise<string> {
  try {
    await action();
  } catch (error) {
    expect(error).toBeInstanceOf(LockstepError);
    return (error as LockstepError).code;
  }
  throw new Error("nothing was thrown");
}

/** All shards once, in the order of the workers. */
export function expectCover(shards: number, ranges: readonly ShardRange[]): void {
  let next = 0;
  for (const { from, to } of ranges) {
    if (from === to) expect(from).toBe(shards);
    else {
      expect(from).toBe(next);
      expect(to).toBeGreaterThan(from);
      next = to;
    }
  }
  expect(next).toBe(shards);
}

export const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, "0");

/** The first message of a worker that has promised nothing and has nothing yet. */
export const helloOf = (incarnation: Incarnation, name = "w"): Extract<WorkerMessage, { kind: "hello" }> => ({
  ...{ kind: "hello", incarnation, name, host: "host", pid: 1, version: "0", address: `${incarnation}:1` },
  ...{ httpAddress: "", labels: {}, promised: null, standing: null },
});

/** A ledger entry whose digests tell step and shard. */
export function entry(step: number, shards = 2, changes: Partial<LedgerEntry> = {}): LedgerEntry {
  return {
    step,
    view: { term: 1, number: 1 },
    lineage: hex(step + 1, 64),
    stateHash: hex(step + 1, 16),
    shards: Array.from({ length: shards }, (_, shard) => ({
      shard,
      idsDigest: hex(step * 256 + shard, 16),
      samples: 4 + shard,
      correct: shard,
      gradientDigest: hex(step * 256 + shard + 128, 16),
      by: hex(shard < shards / 2 ? 1 : 2, 16) as Incarnation,
    })),
    loss: 1 / (step + 1),
    gradientNorm: 0.1,
    applied: true,
    ...changes,
  };
}

/** One small record of each number, told apart by its text. */
export const note = (text: string): DurableRecord => ({ kind: "stop", reason: text, time: 0 });
export const textsOf = (records: Iterable<DurableRecord>): string[] =>
  [...records].flatMap((record) => (record.kind === "stop" ? [record.reason] : []));

/** A small state of a step: two blocks of it, its facts, and its tip with the hash that workers would name. */
export async function stateOf(step: number, fill = step + 1) {
  const image = Buffer.alloc(2 * 4096, fill);
  const hash = await StateHash.of(image.length);
  hash.update(image);
  const tip: Tip = { step, lineage: hex(step, 64), stateHash: hash.digest() };
  const facts: ModelFacts = {
    ...{ parameters: 1024, weightBytes: 4096, stateBytes: image.length },
    sections: [
      { name: "weights", floats: 1024 },
      { name: "momentum", floats: 1024 },
    ],
  };
  const pieces = async function* (length = 3000) {
    for (let at = 0; at < image.length; at += length) yield image.subarray(at, at + length);
  };
  return { image, tip, facts, pieces };
}
