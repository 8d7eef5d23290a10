import { appendFileSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type DurableRecord, entryOf, finalRecord, malformedEntry } from "../../coordinator/records/record.ts";
import { readRecords } from "../../coordinator/records/term-files.ts";
import type { LedgerEntry } from "../../shared/protocol/trailer.ts";
import { codeOf, entry, hex, nextTerm, note, temporary, textsOf } from "./support.ts";

const tip = { step: 1, lineage: hex(7, 64), stateHash: hex(8, 16) };
const range = { from: 0, to: 2 };
const member = { incarnation: hex(1, 16), address: "127.0.0.1:1", shards: range, entry: "level" } as const;

/** A small history that has every kind. */
const HISTORY: DurableRecord[] = [
  { kind: "start", time: 1 },
  {
    kind: "first",
    fingerprint: ["a", "b"],
    root: hex(9, 64),
    facts: { parameters: 3, weightBytes: 12, stateBytes: 24, sections: [{ name: "weights", floats: 3 }] },
  },
  {
    kind: "view",
    view: { id: { term: 1, number: 1 }, predecessor: null, kind: "train", members: [member] },
    base: { ...tip, step: 0 },
    reason: "start",
    time: 2,
  },
  finalRecord(entry(0), 3),
  { kind: "checkpoint", tip, file: "step-1.safetensors", sha256: hex(5, 64), bytes: 99, loss: 0.5 },
  { kind: "loss", worker: "w", why: "gone", time: 4 },
  finalRecord(entry(1), 5),
  { kind: "truncate", tip },
  { kind: "stop", reason: "interrupted", time: 6 },
  { kind: "end", outcome: "stopped", message: "interrupted", code: null, time: 7 },
];

async function write(directory: string, records: readonly DurableRecord[]): Promise<string> {
  const store = await nextTerm(directory);
  for (const record of records) await store.append([record]);
  return join(directory, `term-${store.term}.ndjson`);
}

const withoutTerms = (records: Iterable<DurableRecord>) => [...records].filter(({ kind }) => kind !== "term");

describe("one term", () => {
  test("what was appended is read again, by itself and by the next term", async () => {
    const directory = temporary();
    await write(directory, HISTORY);
    expect(withoutTerms(readRecords(directory))).toEqual(HISTORY);
    const next = await nextTerm(directory);
    expect(next.term).toBe(2);
    await next.append([note("more")]);
    expect(withoutTerms(next.records())).toEqual([...HISTORY, note("more")]);
  });

  test("a crash at any byte leaves a prefix, and the next term goes on from it", async () => {
    const whole = temporary();
    const bytes = readFileSync(await write(whole, HISTORY));
    for (let length = 0; length <= bytes.length; length++) {
      const directory = temporary();
      writeFileSync(join(directory, "term-1.ndjson"), bytes.subarray(0, length));
      const lines = bytes.subarray(0, length).toString().split("\n").length - 1;
      const expected = HISTORY.slice(0, Math.max(0, lines - 1));
      expect(withoutTerms(readRecords(directory))).toEqual(expected);
      if (length % 37 !== 0) continue;
      const next = await nextTerm(directory);
      await next.append([note("after")]);
      expect(withoutTerms(next.records())).toEqual([...expected, note("after")]);
    }
  });

  test("a byte that changes in front of what was durable is damage; in the last record it is a crash", async () => {
    const bytes = readFileSync(await write(temporary(), HISTORY));
    const lastLine = bytes.lastIndexOf(10, -2) + 1;
    for (let at = 0; at < bytes.length; at += 11) {
      const directory = temporary();
      const changed = Buffer.from(bytes);
      changed[at]! ^= 0x20;
      writeFileSync(join(directory, "term-1.ndjson"), changed);
      const read = () => withoutTerms(readRecords(directory));
      if (at >= lastLine) expect(read()).toEqual(HISTORY.slice(0, -1));
      else expect([at, await codeOf(read)]).toEqual([at, "LS_RECORDS_DAMAGED"]);
      const take = async () => {
        const store = await nextTerm(directory);
        await store.append([note("after")]);
        return textsOf(store.records());
      };
      if (at >= lastLine) expect(await take()).toEqual(["interrupted", "after"]);
      else expect([at, await codeOf(take)]).toEqual([at, "LS_RECORDS_DAMAGED"]);
    }
  });

  test("a record of another version is named as such", async () => {
    const directory = temporary();
    const { encodeLine } = await import("../../coordinator/records/line.ts");
    const lines = [
      encodeLine({ kind: "term", term: 1, accepts: [], time: 0 }, 0),
      encodeLine({ kind: "novelty" } as never, 0),
    ];
    writeFileSync(join(directory, "term-1.ndjson"), Buffer.concat(lines));
    expect(await codeOf(() => [...readRecords(directory)])).toBe("LS_RECORDS_FORMAT");
  });

  test("appends in flight are written in order and share flushes", async () => {
    const store = await nextTerm(temporary());
    const texts = Array.from({ length: 200 }, (_, i) => `${i}`);
    await Promise.all(texts.map((text) => store.append([note(text)])));
    expect(textsOf(store.records())).toEqual(texts);
  });

  test("a malformed record is refused and nothing of it is written", async () => {
    const store = await nextTerm(temporary());
    const malformed = finalRecord({ ...entry(0), lineage: "short" }, 0);
    expect(await codeOf(() => store.append([note("a"), malformed]))).toBe("LS_RECORD_MALFORMED");
    await store.append([note("b")]);
    expect(textsOf(store.records())).toEqual(["b"]);
  });
});

describe("several terms", () => {
  test("what an older term appends later does not count, and it learns that it must stop", async () => {
    const directory = temporary();
    const first = await nextTerm(directory);
    await first.append([note("counts")]);
    const second = await nextTerm(directory);
    expect(await codeOf(() => first.append([note("late")]))).toBe("LS_SUPERSEDED");
    expect(await codeOf(() => first.append([note("later")]))).toBe("LS_SUPERSEDED");
    expect(await codeOf(() => first.checkRuling())).toBe("LS_SUPERSEDED");
    await second.append([note("rules")]);
    expect(textsOf(second.records())).toEqual(["counts", "rules"]);
    const third = await nextTerm(directory);
    expect(textsOf(third.records())).toEqual(["counts", "rules"]);
  });

  test("a term that died before its first line never ruled", async () => {
    const directory = temporary();
    await write(directory, [note("a")]);
    writeFileSync(join(directory, "term-2.ndjson"), "");
    writeFileSync(join(directory, "term-3.ndjson"), "1234");
    const store = await nextTerm(directory);
    expect(store.term).toBe(4);
    expect(textsOf(store.records())).toEqual(["a"]);
  });

  test("an older file that was shortened, changed or removed is damage", async () => {
    for (const harm of [
      (file: string) => truncateSync(file, 40),
      (file: string) => writeFileSync(file, readFileSync(file, "utf8").replace('"a"', '"b"')),
      (file: string) => rmSync(file),
    ]) {
      const directory = temporary();
      const file = await write(directory, [note("a")]);
      await write(directory, [note("c")]);
      harm(file);
      expect(await codeOf(() => [...readRecords(directory)])).toBe("LS_RECORDS_DAMAGED");
      expect(await codeOf(() => nextTerm(directory))).toBe("LS_RECORDS_DAMAGED");
    }
  });

  test("bytes behind what was accepted do no harm, whatever they are", async () => {
    const directory = temporary();
    const file = await write(directory, [note("a")]);
    await write(directory, [note("b")]);
    appendFileSync(file, "not a record\nneither\n");
    expect(textsOf(readRecords(directory))).toEqual(["a", "b"]);
  });
});

describe("ledger entries", () => {
  const digest = fc.bigInt(0n, 2n ** 64n - 1n).map((value) => value.toString(16).padStart(16, "0"));
  const shard = fc.record({
    idsDigest: digest,
    samples: fc.nat(1000),
    correct: fc.nat(1000),
    gradientDigest: digest,
    by: digest,
  });
  const any = fc.record({
    step: fc.nat(),
    view: fc.record({ term: fc.nat(), number: fc.nat() }),
    lineage: fc.tuple(digest, digest, digest, digest).map((parts) => parts.join("")),
    stateHash: digest,
    shards: fc.array(shard, { minLength: 1, maxLength: 9 }).map((list) => list.map((one, i) => ({ shard: i, ...one }))),
    loss: fc.oneof(fc.double({ noDefaultInfinity: true }), fc.constant(Number.NaN)),
    gradientNorm: fc.oneof(fc.double({ noDefaultInfinity: true }), fc.constant(Number.NaN)),
    applied: fc.boolean(),
  }) as fc.Arbitrary<unknown> as fc.Arbitrary<LedgerEntry>;

  test("survive their compact form", () => {
    fc.assert(
      fc.property(any, (given) => {
        expect(malformedEntry(given, given.shards.length)).toBeNull();
        const stored = JSON.parse(JSON.stringify(finalRecord(given, 1))) as ReturnType<typeof finalRecord>;
        // JSON knows no negative zero.
        const plain = { ...given, loss: given.loss + 0, gradientNorm: given.gradientNorm + 0 };
        expect(entryOf(stored)).toEqual(plain);
      }),
    );
  });

  test("that cannot be are named", () => {
    const good = entry(3, 2);
    expect(malformedEntry(good, 2)).toBeNull();
    expect(malformedEntry(good, 3)).toMatch("2 shards of 3");
    expect(malformedEntry({ ...good, shards: [...good.shards].reverse() }, 2)).toMatch("shard 1 in place of 0");
    expect(malformedEntry({ ...good, lineage: "" }, 2)).toMatch("lineage");
    expect(malformedEntry({ ...good, step: 1.5 }, 2)).toMatch("1.5");
    expect(malformedEntry({ ...good, stateHash: "xyz" }, 2)).toMatch("state hash");
    expect(malformedEntry({ ...good, shards: [good.shards[0]!, { ...good.shards[1]!, samples: -1 }] }, 2)).toMatch(
      "malformed",
    );
  });
});
