import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Crash, SimulatedDisk } from "./simulated-disk.ts";
import { codeOf, nextTerm, note, textsOf } from "./support.ts";

/** A small generator of its own for each schedule (mulberry32). */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

const errno = (code: string) => Object.assign(new Error(code), { code });

describe("a machine that loses power", () => {
  test("at any operation, again and again: what was acknowledged is there, in order, and nothing was made up", async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer(), fc.array(fc.nat(40), { minLength: 1, maxLength: 8 }), async (seed, lives) => {
        const disk = new SimulatedDisk(random(seed));
        const acknowledged: string[] = [];
        const asked: string[] = [];
        for (const [life, operations] of lives.entries()) {
          disk.crashIn = operations;
          try {
            const store = await nextTerm(disk);
            for (let i = 0; ; i++) {
              // Two in flight, so that batches hold several lines.
              const pair = [`${life}.${i}a`, `${life}.${i}b`];
              asked.push(...pair);
              await Promise.all(pair.map((text) => store.append([note(text)])));
              acknowledged.push(...pair);
            }
          } catch (error) {
            // The log wraps what its file says.
            expect(error instanceof Crash || (error as Error).cause instanceof Crash).toBe(true);
          }
          disk.afterCrash();
        }
        const found = textsOf((await nextTerm(disk)).records());
        expect(found.filter((text) => acknowledged.includes(text))).toEqual(acknowledged);
        expect(found).toEqual(asked.filter((text) => found.includes(text)));
      }),
      { numRuns: 400 },
    );
  });

  test("what a new term accepts is durable before the term is, also where its author did not flush it", async () => {
    const disk = new SimulatedDisk(random(1));
    const first = await nextTerm(disk);
    await first.append([note("a")]);
    const at = disk.operations.length;
    await nextTerm(disk);
    expect(disk.operations.slice(at)).toEqual([
      "create term-2.ndjson",
      "sync term-1.ndjson",
      "sync names",
      ...disk.operations.slice(at).filter((operation) => operation === "write term-2.ndjson"),
      "sync term-2.ndjson",
    ]);
  });
});

describe("order of operations", () => {
  test("a record is flushed before its author looks for a newer term, and only then acknowledged", async () => {
    const disk = new SimulatedDisk(random(2));
    const store = await nextTerm(disk);
    const at = disk.operations.length;
    const names = disk.names;
    disk.names = () => {
      disk.operations.push("look for newer terms");
      return names();
    };
    await store.append([note("a")]).then(() => disk.operations.push("acknowledge"));
    const order = disk.operations.slice(at).filter((operation) => operation !== "write term-1.ndjson");
    expect(order).toEqual(["sync term-1.ndjson", "look for newer terms", "acknowledge"]);
  });

  test("a take-over between the flush and the acknowledgement: the record may count, its author does not act", async () => {
    const disk = new SimulatedDisk(random(3));
    const first = await nextTerm(disk);
    const names = disk.names;
    let second: ReturnType<typeof nextTerm> | null = null;
    disk.names = () => {
      disk.names = names;
      second = nextTerm(disk);
      return names();
    };
    expect(await codeOf(() => first.append([note("between")]))).toBe("LS_SUPERSEDED");
    expect(textsOf((await second!).records())).toEqual(["between"]);
  });
});

describe("a disk that fails", () => {
  const options = { retryEvery: 1, patience: 60_000 };

  test("is waited for while it is full, and no line is written twice", async () => {
    const disk = new SimulatedDisk(random(4));
    const stalls: boolean[] = [];
    const store = await nextTerm(disk, { ...options, onStall: (full) => stalls.push(full) });
    disk.failures = [errno("ENOSPC"), errno("ENOSPC"), errno("EDQUOT")];
    await Promise.all([store.append([note("a")]), store.append([note("b")])]);
    expect(stalls).toEqual([true, false]);
    expect(textsOf(store.records())).toEqual(["a", "b"]);
  });

  test("is given up after its time, or when somebody else rules meanwhile", async () => {
    const disk = new SimulatedDisk(random(5));
    const store = await nextTerm(disk, { retryEvery: 1, patience: 0 });
    disk.failures = Array.from({ length: 9 }, () => errno("ENOSPC"));
    expect(await codeOf(() => store.append([note("a")]))).toBe("LS_RECORDS_WRITE");

    const patient = await nextTerm(disk, options);
    disk.failures = [];
    const next = await nextTerm(disk, options);
    disk.failures = Array.from({ length: 9 }, () => errno("ENOSPC"));
    expect(await codeOf(() => patient.append([note("b")]))).toBe("LS_SUPERSEDED");
    disk.failures = [];
    expect(textsOf(next.records())).toEqual([]);
  });

  test("writes nothing more after an error that may have lost what was flushed", async () => {
    const disk = new SimulatedDisk(random(6));
    const store = await nextTerm(disk, options);
    await store.append([note("a")]);
    disk.failures = [errno("EIO")];
    const both = [store.append([note("b")]), store.append([note("c")])];
    for (const append of both) expect(await codeOf(() => append)).toBe("LS_RECORDS_WRITE");
    expect(await codeOf(() => store.append([note("d")]))).toBe("LS_RECORDS_WRITE");
    expect(textsOf((await nextTerm(disk)).records())).toEqual(["a"]);
  });
});
