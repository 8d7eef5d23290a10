import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { GUARDS } from "../../shared/protocol/guards.ts";
import { catchesIn, documentOf } from "./document.ts";
import { scheduleOf } from "./guards.ts";
import { INVARIANTS, type Invariant } from "./invariants.ts";
import { play } from "./schedule.ts";
import type { World } from "./world.ts";

/** How many schedules of at least three faults the suite plays; README.md here names the command for a million. */
const SCHEDULES = 10_000;

/** Plays a seed; where it fails the message is the line that replays it. */
function holds(seed: number): void {
  const { violation } = play(scheduleOf(seed));
  if (violation !== null)
    expect.fail(`seed ${seed} (again: node dist/test/simulation/play.js ${seed} 1 200): ${violation}`);
}

/** The test runner is answered now and then: it takes one that is busy for a minute for dead. */
const breath = () => new Promise((resolve) => setImmediate(resolve));
const traceOf = (seed: number) => play(scheduleOf(seed), { tracing: true }).trace;

/** Does it every millisecond of a schedule. */
const always = (what: (world: World) => void) => (world: World) => {
  const again = () => {
    what(world);
    world.clock.after(1, again);
  };
  again();
};

const another = <Kept extends { readonly content: string }>(kept: Kept): Kept => ({ ...kept, content: "another" });

/** What no guard's loss breaks first, broken by hand. */
const BY_HAND: readonly (readonly [Invariant, (world: World) => void])[] = [
  ["no-half-step", always((world) => void [...world.workers.values()].map((worker) => worker.content))],
  [
    "one-step-apart",
    always(({ workers }) => {
      const [, second] = workers.values();
      if (second !== undefined) second.contentStep = 0;
    }),
  ],
  [
    "no-forgotten-views",
    always(({ workers }) => {
      for (const { views } of workers.values()) for (const inbox of views.values()) views.set("0.0", inbox);
    }),
  ],
  [
    "sound-checkpoints",
    always((world) => {
      for (const worker of world.workers.values()) {
        if (worker.snapshot !== null) worker.snapshot = another(worker.snapshot);
      }
    }),
  ],
  [
    "same-end",
    ({ checkpoints }) => {
      checkpoints.push = (...stored) => Array.prototype.push.apply(checkpoints, stored.map(another));
    },
  ],
];

describe("random schedules of kills, freezes, cuts, flips, joins, leaves, slow and stuck workers, and coordinators", () => {
  test(`${SCHEDULES} schedules keep every promise`, async () => {
    for (let seed = 0; seed < SCHEDULES; seed++) {
      if (seed % 50 === 0) await breath();
      holds(seed);
    }
  }, 600_000);

  test("any seed keeps every promise", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 31 - 1 }), (seed) => holds(seed)),
      { numRuns: 500 },
    );
  });

  test("a schedule is the same whenever it is played", () => {
    expect(traceOf(17)).toEqual(traceOf(17));
  });

  test("shards move for speed, standbys wait, runs wait for workers: all of it happens in the schedules of the suite", async () => {
    const seen = { balance: 0, standby: 0, fewer: 0, fallback: 0, answers: 0 };
    for (let seed = 0; seed < 1000; seed++) {
      if (seed % 50 === 0) await breath();
      const trace = traceOf(seed).join("\n");
      if (/"planned":true,"reason":"balance/.test(trace)) seen.balance += 1;
      if (/"change":"standby"/.test(trace)) seen.standby += 1;
      if (/of at least \d workers (is|are) there/.test(trace)) seen.fewer += 1;
      if (/"type":"fallback"/.test(trace)) seen.fallback += 1;
      if (/must answer before/.test(trace)) seen.answers += 1;
    }
    for (const [what, count] of Object.entries(seen)) expect(count, what).toBeGreaterThan(10);
  });
});

describe("the simulation notices", () => {
  const document = readFileSync(new URL("README.md", import.meta.url), "utf8");
  const catches = catchesIn(document);

  test("README.md lists every guard and invariant as they are", () => {
    expect(catches.map(({ guard }) => guard)).toEqual(Object.keys(GUARDS));
    expect(document).toBe(documentOf(catches));
  });

  test.each(catches)("a protocol without $guard breaks $invariant at seed $seed", ({ guard, seed, invariant }) => {
    expect(play(scheduleOf(seed), { without: new Set([guard]) }).invariant).toBe(invariant);
  });

  test.each(BY_HAND)("%s, broken by hand", (invariant, spoil) => {
    expect(play(scheduleOf(9)).invariant).toBeNull();
    expect(play(scheduleOf(9), {}, spoil).invariant).toBe(invariant);
  });

  test("every invariant can fail: a guard's loss breaks it, or it is broken by hand", () => {
    const broken = new Set<Invariant>([
      ...catches.map(({ invariant }) => invariant),
      ...BY_HAND.map(([invariant]) => invariant),
    ]);
    expect([...broken].sort()).toEqual((Object.keys(INVARIANTS) as Invariant[]).sort());
  });
});
