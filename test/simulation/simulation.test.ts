import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { GUARDS, type Guard } from "../../shared/protocol/guards.ts";
import { scheduleOf } from "./guards.ts";
import { play } from "./schedule.ts";

/** How many schedules of at least three faults the suite plays; the README names the command for a million. */
const SCHEDULES = 10_000;

/**
 * Seeds at which the protocol breaks when one guard is taken away, found with `node dist/test/simulation/guards.js`. The
 * simulation is only evidence if it notices.
 */
const CAUGHT_AT: Readonly<Record<Guard, number>> = {
  "refuse-lower-views": 951,
  "close-before-answer": 1,
  "all-trailers": 1,
  "equal-states": 23,
  "own-hash": 19,
  "plan-in-all-trailers": 467,
  "promise-drops-plan": 18,
  "joiner-proves-itself": 10845,
  "left-streams-stay": 287,
  "entries-travel": 893,
  "early-trailers": 1462,
  "current-view-only": 17703,
  "durable-before-act": 0,
  "one-term-rules": 0,
  "wait-for-all": 63,
  "highest-base": 10_227,
  "majority-of-hashes": 31,
  "new-id-each-time": 1,
  "checkpoint-is-final": 21,
  "leavers-wait": 533,
  "silence-evicts": 85,
  "no-progress-evicts": 19,
  "say-again": 0,
};

describe("random schedules of kills, freezes, cuts, flips, joins, leaves and coordinators", () => {
  test(`${SCHEDULES} schedules keep every promise`, () => {
    for (let seed = 0; seed < SCHEDULES; seed++) {
      const { violation } = play(scheduleOf(seed));
      if (violation !== null)
        expect.fail(`seed ${seed} (node dist/test/simulation/play.js ${seed} 1 200): ${violation}`);
    }
  });

  test("any seed keeps every promise", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 31 - 1 }), (seed) => {
        expect(play(scheduleOf(seed)).violation).toBeNull();
      }),
      { numRuns: 500 },
    );
  });

  test("a schedule is the same whenever it is played", () => {
    expect(play(scheduleOf(17)).trace).toEqual(play(scheduleOf(17)).trace);
  });
});

describe("a protocol without one of its guards", () => {
  test.each(Object.keys(GUARDS) as Guard[])("%s: the simulation notices", (guard) => {
    const seed = CAUGHT_AT[guard];
    expect(play(scheduleOf(seed), { without: new Set([guard]) }).violation).not.toBeNull();
  });
});
