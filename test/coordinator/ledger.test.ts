import { describe, expect, test } from "vitest";
import { acceptStep, emptyLedger, isExact, truncateLedger } from "../../coordinator/ledger.ts";
import { foldHistory } from "../../coordinator/records/history.ts";
import { type DurableRecord, finalRecord } from "../../coordinator/records/record.ts";
import { summarize } from "../../coordinator/summary.ts";
import { idsDigest } from "../../shared/plan/digest.ts";
import { Plan } from "../../shared/plan/plan.ts";
import type { LedgerEntry } from "../../shared/protocol/trailer.ts";
import { resolved } from "../config/support.ts";
import { codeOf, entry, hex } from "./support.ts";

const IMAGES = 40;
const { config } = resolved({ shards: 2, batch: 8, steps: 20 }, { dataset: { trainImages: IMAGES } });
const plan = new Plan({ labels: new Uint8Array(IMAGES), ...config.recipe });

/** A final step as it was planned; `ids` of one shard may be others. */
function planned(step: number, fed: (ids: Int32Array) => Int32Array = (ids) => ids): LedgerEntry {
  const base = entry(step, 2);
  const shards = base.shards.map((shard, i) => {
    const ids = i === 1 ? fed(plan.microBatch(step, i)) : plan.microBatch(step, i);
    return { ...shard, idsDigest: idsDigest(ids), samples: ids.length };
  });
  return { ...base, shards };
}
const repeatFirst = (ids: Int32Array) => ids.map((id, i) => (i === 1 ? ids[0]! : id));
const lose = (ids: Int32Array) => ids.subarray(1);
const take = (entries: readonly LedgerEntry[]) =>
  entries.reduce((ledger, one) => acceptStep(ledger, one, plan), emptyLedger);

describe("the ledger", () => {
  test("is exact while every micro-batch was the planned one, in its order", () => {
    const whole = take([0, 1, 2].map((step) => planned(step)));
    expect([whole.steps, whole.lineage, isExact(whole)]).toEqual([3, hex(3, 64), true]);
    for (const wrong of [repeatFirst, lose, (ids: Int32Array) => ids.toReversed()]) {
      const ledger = take([planned(0), planned(1, wrong), planned(2)]);
      expect(isExact(ledger)).toBe(false);
      expect(ledger.differences).toMatchObject([{ step: 1, shard: 1, planned: idsDigest(plan.microBatch(1, 1)) }]);
    }
  });

  test("takes a repeat as none, and refuses gaps and contradictions", async () => {
    const ledger = take([planned(0), planned(1)]);
    expect(acceptStep(ledger, planned(1), plan)).toBe(ledger);
    expect(acceptStep(ledger, planned(0), plan)).toBe(ledger);
    expect(await codeOf(() => acceptStep(ledger, planned(3), plan))).toBe("LS_LEDGER_GAP");
    const other = { ...planned(1), lineage: hex(99, 64) };
    expect(await codeOf(() => acceptStep(ledger, other, plan))).toBe("LS_LEDGER_CONTRADICTION");
  });

  test("speaks of the surviving line: what fell back does not count any more", () => {
    const ledger = truncateLedger(take([planned(0), planned(1, lose)]), 1, hex(1, 64));
    expect([ledger.steps, isExact(ledger), isExact(acceptStep(ledger, planned(1), plan))]).toEqual([1, true, true]);
  });
});

const member = (n: number) => ({
  ...{ incarnation: hex(n, 16), address: "127.0.0.1:1", shards: { from: 0, to: 1 }, entry: "level" as const },
});
const view = (number: number, members: number): DurableRecord => ({
  ...{ kind: "view", base: null, reason: "", time: 0 },
  view: {
    ...{ id: { term: 1, number }, predecessor: null, kind: "train" },
    members: Array.from({ length: members }, (_, i) => member(i)),
  },
});
const final = (step: number, time: number) => finalRecord(planned(step), time);
const summaryOf = (records: readonly DurableRecord[]) =>
  summarize({
    ...{ config, plan, records, outcome: "done", facts: { parameters: 5 }, stateSha256: "s", testImages: 9 },
    ...{ startedAt: 1000, endedAt: 61_000 },
  });

describe("the summary", () => {
  test("counts steps, epochs, views, losses, most workers, and the pace since the last start", () => {
    const records: DurableRecord[] = [
      { kind: "start", time: 0 },
      {
        kind: "first",
        fingerprint: [],
        root: hex(7, 64),
        facts: { parameters: 5, weightBytes: 0, stateBytes: 0, sections: [] },
      },
      ...[
        view(1, 2),
        final(0, 0),
        final(1, 10),
        ...[1, 2].map((time) => ({ kind: "loss", worker: "w", why: "", time }) as const),
        view(2, 1),
      ],
      // Resumed after a pause that does not count: 8 images in each of the two steps behind the first, in 4 seconds.
      ...[{ kind: "start", time: 0 } as const, final(2, 100_000), final(3, 101_000), final(4, 104_000)],
    ];
    expect(summaryOf(records)).toMatchObject({
      ...{ steps: 5, epochs: 1, views: 2, failuresSurvived: 1, workers: 2, imagesPerSecond: 16 / 4, parent: null },
      ...{ wallSeconds: 60, lineage: hex(5, 64), samplesPerEpochExact: true, firstDifference: null, testImages: 9 },
    });
    expect(summaryOf(records.slice(0, 2))).toMatchObject({ steps: 0, lineage: hex(7, 64), imagesPerSecond: null });
  });

  test("names the first micro-batch that was not the planned one", () => {
    expect(summaryOf([final(0, 0), finalRecord(planned(1, repeatFirst), 1), final(2, 2)])).toMatchObject({
      ...{ samplesPerEpochExact: false, firstDifference: { step: 1, shard: 1 } },
    });
  });
});

describe("what a new reign starts from", () => {
  const tip = (step: number) => ({ step, lineage: hex(step, 64), stateHash: hex(step, 16) });
  const checkpoint = (step: number): DurableRecord => ({
    ...{ kind: "checkpoint", tip: tip(step), file: `${step}`, sha256: hex(step, 64), bytes: 1, loss: null },
  });

  test("is the end of the line, its checkpoints, an open stop; a start takes stop and end back", () => {
    const records = [view(1, 1), final(0, 0), final(1, 1), checkpoint(2), final(2, 2)];
    const stop: DurableRecord = { kind: "stop", reason: "interrupted", time: 0 };
    const end: DurableRecord = { kind: "end", outcome: "stopped", message: "interrupted", code: null, time: 0 };
    const folded = foldHistory([...records, stop]);
    expect(folded).toMatchObject({
      ledgerTip: { ...tip(3) },
      checkpoint: tip(2),
      stopping: "interrupted",
      ended: null,
    });
    // Steps 2 alone lies behind the checkpoint; its loss is 1/3.
    expect(folded.sinceCheckpoint).toEqual({ steps: 1, loss: 1 / 3 });
    expect(foldHistory([...records, stop, end]).ended).toEqual(end);
    const again = foldHistory([...records, stop, end, { kind: "start", time: 1 }]);
    expect([again.stopping, again.ended]).toEqual([null, null]);
  });

  test("leaves out what a fall-back took, and refuses steps that are out of sequence", async () => {
    const fallen = [final(0, 0), checkpoint(1), final(1, 1), checkpoint(2), { kind: "truncate", tip: tip(1) } as const];
    expect(foldHistory(fallen)).toMatchObject({
      ledgerTip: tip(1),
      checkpoint: tip(1),
      checkpoints: [{ tip: tip(1) }],
    });
    expect(await codeOf(() => foldHistory([final(0, 0), final(2, 1)]))).toBe("LS_RECORDS_DAMAGED");
  });

  test("a fork begins at its parent's step", () => {
    expect(foldHistory([{ kind: "truncate", tip: tip(7) }, checkpoint(7), final(7, 0)])).toMatchObject({
      ...{ ledgerTip: tip(8), checkpoint: tip(7), views: [] },
    });
  });
});
