import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { LockstepError } from "../../shared/errors.ts";
import { deal, shardSize, stepsPerEpoch } from "../../shared/plan/deal.ts";
import { microBatchSizes, Plan } from "../../shared/plan/plan.ts";

/** Labels of 2 * shards to 400 samples, a number of shards, a batch and a seed. */
const setting = fc
  .record({
    shards: fc.integer({ min: 1, max: 17 }),
    classes: fc.integer({ min: 1, max: 12 }),
    extra: fc.integer({ min: 0, max: 300 }),
    batch: fc.integer({ min: 1, max: 500 }),
    seed: fc.nat({ max: 0xffffffff }),
  })
  .chain(({ shards, classes, extra, batch, seed }) =>
    fc.record({
      labels: fc.array(fc.integer({ min: 0, max: classes - 1 }), {
        minLength: 2 * shards + extra,
        maxLength: 2 * shards + extra,
      }),
      shards: fc.constant(shards),
      batch: fc.constant(batch),
      seed: fc.constant(seed),
    }),
  );

const spread = (values: readonly number[]) => Math.max(...values) - Math.min(...values);
const ascending = (ids: Iterable<number>) => [...ids].sort((a, b) => a - b);

describe("the deal", () => {
  it("gives every sample to one shard, in equal sizes, stratified by class", () => {
    fc.assert(
      fc.property(setting, ({ labels, shards, seed }) => {
        const hands = deal(labels, shards, seed);
        expect(ascending(hands.flatMap((hand) => [...hand]))).toEqual(labels.map((_, id) => id));
        expect(hands.map((hand) => hand.length)).toEqual(hands.map((_, s) => shardSize(labels.length, shards, s)));
        expect(spread(hands.map((hand) => hand.length))).toBeLessThanOrEqual(1);
        for (const label of new Set(labels)) {
          const counts = hands.map((hand) => hand.filter((id) => labels[id] === label).length);
          expect(spread(counts)).toBeLessThanOrEqual(1);
        }
      }),
    );
  });

  it("depends on the seed and on nothing else", () => {
    const labels = Array.from({ length: 100 }, (_, i) => i % 10);
    expect(deal(labels, 8, 1)).toEqual(deal(labels, 8, 1));
    expect(deal(labels, 8, 1)).not.toEqual(deal(labels, 8, 2));
  });
});

describe("the plan", () => {
  it("uses every sample in exactly one step of an epoch, in micro-batches of nearly equal sizes of two and more", () => {
    fc.assert(
      fc.property(setting, fc.nat({ max: 1000 }), ({ labels, shards, batch, seed }, epoch) => {
        const steps = stepsPerEpoch(labels.length, batch, shards);
        const plan = new Plan({ labels, seed, shards, stepsPerEpoch: steps });
        const hands = deal(labels, shards, seed);
        const used: number[] = [];
        const sizes: number[] = [];
        const globals: number[] = [];
        for (let step = 0; step < steps; step++) {
          let global = 0;
          for (let shard = 0; shard < shards; shard++) {
            const ids = plan.microBatch(epoch * steps + step, shard);
            expect(ids.length).toBe(plan.sizeOf(step, shard));
            expect(ids.every((id) => hands[shard]!.includes(id))).toBe(true);
            used.push(...ids);
            sizes.push(ids.length);
            global += ids.length;
          }
          expect(plan.globalCount(step)).toBe(global);
          globals.push(global);
        }
        expect(ascending(used)).toEqual(labels.map((_, id) => id));
        expect(Math.min(...sizes)).toBeGreaterThanOrEqual(2);
        expect(spread(sizes)).toBeLessThanOrEqual(1);
        expect(spread(globals)).toBeLessThanOrEqual(1);
        expect(plan.sizes()).toEqual(ascending(new Set(sizes)));
        expect(microBatchSizes(labels.length, shards, steps)).toEqual(plan.sizes());
      }),
    );
  });

  it("gives the same ids whatever was asked before", () => {
    const labels = Array.from({ length: 103 }, (_, i) => i % 7);
    const make = () => new Plan({ labels, seed: 11, shards: 4, stepsPerEpoch: 5 });
    const plan = make();
    fc.assert(
      fc.property(fc.nat({ max: 49 }), fc.nat({ max: 3 }), (step, shard) => {
        expect(plan.microBatch(step, shard)).toEqual(make().microBatch(step, shard));
      }),
    );
  });

  it("permutes inside each shard from epoch to epoch", () => {
    const labels = Array.from({ length: 80 }, (_, i) => i % 5);
    const plan = new Plan({ labels, seed: 1, shards: 4, stepsPerEpoch: 1 });
    const [first, second] = [plan.microBatch(0, 2), plan.microBatch(1, 2)];
    expect(ascending(first)).toEqual(ascending(second));
    expect(first).not.toEqual(second);
  });

  it("plans STL-10 as a person would: 5,000 images, batch 64, 8 shards", () => {
    expect(stepsPerEpoch(5000, 64, 8)).toBe(78);
    expect(microBatchSizes(5000, 8, 78)).toEqual([8, 9]); // 625 = 78 * 8 + 1
    expect(stepsPerEpoch(5000, 1, 8)).toBe(312); // 625 / 2: never below two samples
  });

  it("refuses what would leave micro-batches of one sample, and says what to change", () => {
    expect(() => stepsPerEpoch(15, 8, 8)).toThrow("15 training images cannot fill 8 shards with 2 each.");
    const cut = () => new Plan({ labels: new Array(100).fill(0), seed: 1, shards: 8, stepsPerEpoch: 7 });
    expect(cut).toThrow("100 images in 8 shards and 7 steps leave micro-batches of fewer than 2 samples.");
    try {
      cut();
    } catch (error) {
      expect(error).toBeInstanceOf(LockstepError);
      expect((error as LockstepError).toLine()).toContain("--shards");
    }
  });
});
