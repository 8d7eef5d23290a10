import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Random } from "../simulation/clock.ts";
import { Cluster } from "./machine-support.ts";
import { expectCover } from "./support.ts";

/** Steps and heartbeats of a cluster whose workers have these speeds; planned views take effect at once. */
function run(cluster: Cluster, steps: number, speeds: (step: number) => Record<string, number>): void {
  for (let i = 0; i < steps; i++) {
    cluster.at += 1;
    cluster.beat(speeds(cluster.at));
    cluster.switchOver();
    cluster.tick();
  }
}

const moves = (cluster: Cluster) => cluster.views.filter((view) => view.includes("balance")).length;

describe("shards follow measured speed", () => {
  test("a worker of a third of the speed keeps a third of the shards, after the set number of steps", () => {
    const cluster = Cluster.of(["a", "b"]);
    expect(cluster.shards).toEqual({ a: "0-4", b: "4-8" });
    run(cluster, 20, () => ({ a: 10, b: 30 }));
    expect(cluster.shards).toEqual({ a: "0-4", b: "4-8" });
    run(cluster, 2, () => ({ a: 10, b: 30 }));
    expect(cluster.shards).toEqual({ a: "0-6", b: "6-8" });
    expect(cluster.views.at(-1)).toBe("1.2 balance: 60 ms instead of 120 ms for the slowest worker's shards");
    run(cluster, 1000, () => ({ a: 10, b: 30 }));
    expect(moves(cluster)).toBe(1);
  });

  test("a gain below the threshold moves nothing", () => {
    const cluster = Cluster.of(["a", "b"]);
    // 3 and 5 shards would take 84 instead of 96 ms: 12.5 %.
    run(cluster, 500, () => ({ a: 24, b: 16.8 }));
    expect(moves(cluster)).toBe(0);
    const generous = Cluster.of(["a", "b"], { balance: { gain: 0.1, steps: 20 } });
    run(generous, 30, () => ({ a: 24, b: 16.8 }));
    expect(moves(generous)).toBe(1);
  });

  test("a gain of 1 turns it off", () => {
    const cluster = Cluster.of(["a", "b"], { balance: { gain: 1, steps: 1 } });
    run(cluster, 200, () => ({ a: 1, b: 1000 }));
    expect(moves(cluster)).toBe(0);
  });

  test("a worker that is slow for fewer steps than set keeps its shards", () => {
    const cluster = Cluster.of(["a", "b"]);
    run(cluster, 600, (step) => ({ a: 10, b: step % 20 < 15 ? 100 : 10 }));
    expect(moves(cluster)).toBe(0);
  });

  test("noise of a quarter around equal speeds moves nothing in thousands of steps", () => {
    fc.assert(
      fc.property(fc.integer(), fc.integer({ min: 2, max: 5 }), (seed, count) => {
        const names = Array.from({ length: count }, (_, i) => `w${i}`);
        const cluster = Cluster.of(names);
        const random = new Random(seed);
        run(cluster, 2000, () => Object.fromEntries(names.map((name) => [name, 20 * (0.875 + random.next() / 4)])));
        expect(moves(cluster)).toBe(0);
      }),
      { numRuns: 20 },
    );
  });

  test("speeds that change places every 60 steps: each move waits twice as long as the one before, so that they end", () => {
    const cluster = Cluster.of(["a", "b"]);
    run(cluster, 6000, (step) => (Math.floor(step / 60) % 2 === 0 ? { a: 10, b: 40 } : { a: 40, b: 10 }));
    // One after 20 steps, one after 40; the third would need 80 in a row. Moves are forgotten after 2,000 steps.
    expect(moves(cluster)).toBeLessThanOrEqual(2 * 3 + 1);
    expect(moves(cluster)).toBeGreaterThanOrEqual(2);
  });

  test("speeds of any kind: shards are covered once in every view, and moves are bounded", () => {
    fc.assert(
      fc.property(fc.integer(), fc.integer({ min: 2, max: 6 }), fc.integer({ min: 1, max: 17 }), (seed, count, V) => {
        const names = Array.from({ length: Math.min(count, V) }, (_, i) => `w${i}`);
        const cluster = Cluster.of(names, { shards: V });
        const random = new Random(seed);
        const steps = 1000;
        run(cluster, steps, () => Object.fromEntries(names.map((name) => [name, 1 + 200 * random.next() ** 3])));
        for (const event of cluster.actions) {
          if (event.kind !== "recordView") continue;
          expectCover(
            V,
            event.view.members.map(({ shards }) => shards),
          );
        }
        // 20 + 40 + 80 + 160 + 320 steps in a row are 620; the sixth needs 640 more.
        expect(moves(cluster)).toBeLessThanOrEqual(5);
      }),
      { numRuns: 40 },
    );
  });

  test("a worker too slow to help gets nothing, is tried again later, and each failure doubles the wait", () => {
    const cluster = Cluster.of(["a", "b", "c"]);
    const speeds = { a: 10, b: 10, c: 1000 };
    run(cluster, 25, () => speeds);
    expect(cluster.shards).toEqual({ a: "0-4", b: "4-8", c: "8-8" });
    const seen: number[] = [];
    let had = false;
    // 60 s, and 120 s after it has disappointed once, until it is taken to be a hundred times faster than it was.
    for (let i = 0; i < 40_000; i++) {
      run(cluster, 1, () => speeds);
      const has = cluster.shards.c !== "8-8";
      if (has && !had) seen.push(cluster.now);
      had = has;
    }
    expect(seen.length).toBeGreaterThan(2);
    const waits = seen.slice(1).map((at, i) => at - seen[i]!);
    for (let i = 1; i < Math.min(4, waits.length); i++) expect(waits[i]).toBeGreaterThan(1.5 * waits[i - 1]!);
    // Once it is as fast as the others it is back for good.
    while (cluster.shards.c === "8-8") run(cluster, 1, () => speeds);
    run(cluster, 3000, () => ({ a: 10, b: 10, c: 10 }));
    expect(cluster.shards).toEqual({ a: "0-3", b: "3-6", c: "6-8" });
  });

  test("while somebody joins or is not yet measured nothing moves; who was never measured is taken for the middle one", () => {
    const cluster = Cluster.of(["a", "b"]);
    run(cluster, 30, () => ({ a: 10, b: 30 }));
    expect(cluster.shards).toEqual({ a: "0-6", b: "6-8" });
    cluster.join("c");
    cluster.switchOver();
    cluster.beat({ a: 10, b: 30 });
    expect(cluster.shards.c).toBe("8-8");
    cluster.beat({ c: 0 });
    cluster.switchOver();
    // 10, 30 and, for the new one, 30: nobody needs more than 60.
    expect(cluster.views.at(-1)).toContain("level: c");
    expect(cluster.shards).toEqual({ a: "0-4", b: "4-6", c: "6-8" });
  });
});

describe("more workers than shards", () => {
  test("one too many is a standby, says so once, and takes the place of whoever leaves", () => {
    const cluster = Cluster.of(["a", "b", "c"], { workers: 2, shards: 2 });
    run(cluster, 5, () => ({ a: 10, b: 10 }));
    const standbys = () => cluster.events.filter((e) => e.type === "worker" && e.change === "standby");
    expect(standbys()).toMatchObject([{ name: "c", why: expect.stringContaining("all 2 shards have a worker") }]);
    expect(cluster.shards).toEqual({ a: "0-1", b: "1-2" });
    cluster.message("a", { kind: "leaving", reason: "asked" });
    run(cluster, 3, () => ({ a: 10, b: 10, c: 10 }));
    expect(cluster.shards).toEqual({ b: "0-1", c: "1-2" });
    expect(standbys()).toHaveLength(1);
  });
});
