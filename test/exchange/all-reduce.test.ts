import fc from "fast-check";
import { afterEach, describe, expect, it } from "vitest";
import {
  bytesOf,
  computeNodes,
  gradientsOf,
  type MemberOptions,
  rangesAt,
  referenceSum,
  startMember,
  type TestMember,
  testLayout,
  trailerOf,
  viewOf,
  type Wire,
} from "./support.ts";

/** Every member ends with the canonical sum, bit for bit, whatever the view, the buckets and the order of events. */

let members: TestMember[] = [];

afterEach(() => {
  for (const member of members) member.stop();
  members = [];
});

async function start(count: number, options: MemberOptions): Promise<TestMember[]> {
  members = await Promise.all(Array.from({ length: count }, (_, i) => startMember(i, options)));
  return members;
}

interface Case {
  readonly shards: number;
  readonly cuts: readonly number[];
  readonly joiners: number;
  readonly floats: number;
  readonly bucketBytes: number;
  readonly wire: Wire;
  readonly order: readonly number[];
}

async function runCase(
  { shards, cuts, joiners, floats, bucketBytes, wire, order }: Case,
  steps: number,
): Promise<void> {
  const options = { layout: testLayout(floats, bucketBytes), shards, wire };
  const ranges = rangesAt(shards, cuts);
  const all = await start(ranges.length + joiners, options);
  const view = viewOf(all, ranges);
  for (const member of all) member.exchange.openView(view);
  for (let step = 0; step < steps; step++) {
    const gradients = gradientsOf(options.layout, shards, step, wire);
    const expected = bytesOf(referenceSum(gradients, options.layout, wire));
    const turns = all.map((_, i) => i).sort((a, b) => (order[a] ?? 0) - (order[b] ?? 0));
    for (const i of turns) {
      const member = all[i]!;
      member.exchange.begin(view.id, step);
      const range = ranges[i];
      if (range !== undefined) {
        const nodes = computeNodes(member, options, range, gradients);
        const buckets = options.layout.buckets.map(({ index }) => index);
        // Half of the members publish bucket by bucket, as their backward pass would.
        if (i % 2 === 0) member.exchange.publishNodes(view.id, step, nodes);
        else for (const bucket of buckets) member.exchange.publishNodes(view.id, step, nodes, [bucket]);
      }
      member.exchange.publishTrailer(trailerOf(view, member, step));
      await new Promise((resolve) => setImmediate(resolve));
    }
    await Promise.all(all.map((member) => member.waitFor("reduced", (event) => event.step === step)));
    for (const member of all) {
      for (const peer of all) {
        if (peer !== member)
          await member.waitFor("trailer", ({ trailer }) => trailer.step === step && trailer.from === peer.self);
      }
      expect(bytesOf(member.reduced(step)).equals(expected)).toBe(true);
      expect(member.exchange.owed(view.id, step).every(({ owed }) => owed === 0)).toBe(true);
      expect(member.exchange.chunksRefused).toBe(0);
      expect(member.events.filter(({ kind }) => kind === "corrupt" || kind === "lost")).toEqual([]);
    }
  }
  for (const member of members) member.stop();
}

describe("all-reduce", () => {
  it.each([
    { name: "one member", shards: 8, cuts: [], wire: "float32" as const },
    { name: "two members, whole sub-trees", shards: 8, cuts: [4], wire: "float32" as const },
    { name: "three members", shards: 8, cuts: [3, 5], wire: "float32" as const },
    { name: "five members in bfloat16", shards: 8, cuts: [1, 3, 5, 6], wire: "bf16" as const },
    { name: "seven members", shards: 16, cuts: [3, 5, 7, 9, 11, 14], wire: "float32" as const },
  ])("gives every member the canonical sum: $name", async ({ shards, cuts, wire }) => {
    await runCase({ shards, cuts, joiners: 0, floats: 30_000, bucketBytes: 20_000, wire, order: [] }, 3);
  });

  it("gives it to joiners, who own nothing", async () => {
    await runCase(
      { shards: 8, cuts: [4], joiners: 2, floats: 9000, bucketBytes: 9000, wire: "float32", order: [2, 1, 4, 0] },
      2,
    );
  });

  it("works on segments of more than one chunk and on buckets with fewer blocks than owners", async () => {
    await runCase(
      { shards: 8, cuts: [5], joiners: 0, floats: 600_000, bucketBytes: 1 << 22, wire: "float32", order: [] },
      1,
    );
    await runCase(
      { shards: 16, cuts: [2, 4, 6, 8, 10, 12], joiners: 1, floats: 2000, bucketBytes: 4096, wire: "bf16", order: [] },
      2,
    );
  });

  it("holds for random views, layouts, bucket sizes and orders", async () => {
    const cases = fc.constantFrom(8, 16).chain((shards) =>
      fc.record({
        shards: fc.constant(shards),
        cuts: fc.uniqueArray(fc.integer({ min: 1, max: shards - 1 }), { maxLength: 6 }),
        joiners: fc.integer({ min: 0, max: 1 }),
        floats: fc.integer({ min: 1, max: 40_000 }),
        bucketBytes: fc.integer({ min: 1, max: 100_000 }),
        wire: fc.constantFrom<Wire>("float32", "bf16"),
        order: fc.array(fc.nat(100), { minLength: 8, maxLength: 8 }),
      }),
    );
    await fc.assert(
      fc.asyncProperty(cases, (random) => runCase(random, 2)),
      { numRuns: 12 },
    );
  });
});
