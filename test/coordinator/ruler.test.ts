import { describe, expect, test } from "vitest";
import type { History } from "../../coordinator/machine/state.ts";
import { foldHistory } from "../../coordinator/records/history.ts";
import type { DurableRecord } from "../../coordinator/records/record.ts";
import type { Store } from "../../coordinator/records/term-files.ts";
import { Ruler, type RulerParts } from "../../coordinator/ruler.ts";
import { LockstepError } from "../../shared/errors.ts";
import type { CoordinatorMessage, WorkerMessage } from "../../shared/protocol/messages.ts";
import type { Incarnation, ViewId } from "../../shared/protocol/view.ts";
import { resolved } from "../config/support.ts";
import { codeOf, entry, helloOf, hex } from "./support.ts";

const W = hex(1, 16) as Incarnation;
const standing = { tip: { step: 0, lineage: hex(9, 64), stateHash: hex(9, 16) }, whole: true, view: null, entries: [] };
const facts = { parameters: 1, weightBytes: 4, stateBytes: 8, sections: [] };
const settled = () => new Promise((resolve) => setImmediate(resolve));

/** A reign over one worker whose records reach the disk only when the test says so. */
function reign(more: Partial<RulerParts> = {}, history: Partial<History> = {}) {
  const { config } = resolved({ workers: 1, shards: 2 });
  const flushes: { readonly records: readonly DurableRecord[]; done(): void; fail(error: unknown): void }[] = [];
  const sent: CoordinatorMessage[] = [];
  const store: Store = {
    term: 1,
    append: (records) => new Promise((done, fail) => flushes.push({ records, done, fail })),
    *records() {},
    checkRuling() {},
    async close() {},
  };
  const shown: string[] = [];
  const chronicle: RulerParts["chronicle"] = {
    event: ({ type }) => void shown.push(type),
    final: ({ step, lineage }) => void shown.push(`final ${step} ${lineage.slice(-1)}`),
    validation: ({ step }) => void shown.push(`validation ${step}`),
    truncate: (steps) => void shown.push(`truncate ${steps}`),
    note() {},
  };
  const checkpoints = {} as RulerParts["checkpoints"];
  const clock = { now: () => 0, every: () => () => {} };
  const folded = { ...foldHistory([]), ...history };
  const ruler = new Ruler({ config, store, history: folded, checkpoints, chronicle, testImages: 0, clock, ...more });
  const outcome = ruler.rule({ incarnations: [W], send: (_to, message) => void sent.push(message), close() {} });
  const say = (message: WorkerMessage) => ruler.message(W, message);
  const flush = async () => {
    await settled();
    for (const { done } of flushes.splice(0)) done();
    await settled();
  };
  const idOf = (kind: "prepare" | "install"): ViewId => {
    const message = sent.findLast((one) => one.kind === kind);
    return message?.kind === "prepare" ? message.id : message?.kind === "install" ? message.view.id : expect.fail(kind);
  };
  const form = async () => {
    ruler.hello(helloOf(W));
    say({ kind: "ready", fingerprint: ["f"], root: hex(9, 64), standing, facts });
    await flush();
    say({ kind: "answer", id: idOf("prepare"), standing });
  };
  return { ruler, outcome, flushes, sent, shown, say, flush, form, settled };
}

describe("what the machine decides", () => {
  test("is done only when the records before it are on the disk", async () => {
    const { sent, flushes, form, flush } = reign();
    await form();
    await settled();
    expect(flushes.map(({ records }) => records.map(({ kind }) => kind))).toEqual([["view"]]);
    expect(sent.some(({ kind }) => kind === "install")).toBe(false);
    await flush();
    expect(sent.some(({ kind }) => kind === "install")).toBe(true);
  });

  test("a record that comes while others are being flushed is flushed after them, not lost", async () => {
    const { ruler, say, flush, form, flushes } = reign();
    await form();
    await flush();
    say({ kind: "final", entries: [entry(0)] });
    await settled();
    // Step 0 is under way to the disk; 1 and 2 come meanwhile, as one message each.
    for (const step of [1, 2]) say({ kind: "final", entries: [entry(step)] });
    expect([flushes.length, ruler.recordedStep]).toEqual([1, 0]);
    await flush();
    expect(ruler.recordedStep).toBe(1);
    expect(flushes.flatMap(({ records }) => records)).toMatchObject([
      { kind: "final", step: 1 },
      { kind: "final", step: 2 },
    ]);
    await flush();
    expect(ruler.recordedStep).toBe(3);
  });

  test("is shown step by step as the records have it: only a step that contradicts them takes others away", async () => {
    const { shown, say, flush, form } = reign();
    await form();
    await flush();
    say({ kind: "final", entries: [0, 1, 2].map((step) => entry(step)) });
    await flush();
    shown.length = 0;
    // After a fall-back step 0 is done again with the same bits, step 1 with others.
    const other = entry(1, 2, { lineage: hex(15, 64) });
    say({ kind: "final", entries: [entry(0), other] });
    await flush();
    expect(shown).toEqual(["truncate 1", "final 1 f"]);
  });

  test("nothing more is done once a record could not be made durable", async () => {
    const { sent, outcome, form, flushes, say } = reign();
    await form();
    await settled();
    flushes[0]!.fail(new LockstepError("LS_SUPERSEDED", "Somebody else rules."));
    expect(await codeOf(() => outcome)).toBe("LS_SUPERSEDED");
    const before = sent.length;
    say({ kind: "final", entries: [entry(0)] });
    await settled();
    expect([sent.length, flushes.length]).toEqual([before, 1]);
    expect(sent.some(({ kind }) => kind === "install")).toBe(false);
  });

  test("a reign that ended alone lets nobody go: its workers are the next one's", async () => {
    const { ruler, sent, outcome, form, flushes } = reign();
    await form();
    await settled();
    flushes[0]!.fail(new LockstepError("LS_SUPERSEDED", "Somebody else rules."));
    expect(await codeOf(() => outcome)).toBe("LS_SUPERSEDED");
    ruler.hello(helloOf(W));
    expect(sent.at(-1)).toMatchObject({ kind: "welcome" });
  });

  test("whoever comes once the run has failed hears so when that is recorded, and not before", async () => {
    const { ruler, sent, say, form, flush } = reign();
    await form();
    await flush();
    ruler.state.gap = { since: Number.NEGATIVE_INFINITY, step: 7 };
    const progress = {
      ...{ view: null, phase: "compute" as const, stepMillis: 0, level: true, shardMillis: 0 },
      peers: [],
    };
    say({ kind: "heartbeat", progress: { ...progress, step: 9, images: 0, residentBytes: 0 } });
    ruler.feed({ kind: "tick" });
    await settled();
    ruler.hello(helloOf(W));
    expect(sent.at(-1)).toMatchObject({ kind: "welcome" });
    await flush();
    expect(sent.filter(({ kind }) => kind === "release")).toEqual(Array(2).fill({ kind: "release", reason: "failed" }));
    ruler.hello(helloOf(W));
    expect(sent.at(-1)).toEqual({ kind: "release", reason: "failed" });
  });

  test("a stop outlives the process: it is recorded at once", async () => {
    const { ruler, flushes } = reign();
    ruler.stop("interrupted");
    expect(flushes[0]!.records).toMatchObject([{ kind: "stop", reason: "interrupted" }]);
  });
});
