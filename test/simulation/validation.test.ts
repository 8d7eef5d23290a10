import { expect, test } from "vitest";
import { scheduleOf } from "./guards.ts";
import { BATCHES, countsOf } from "./held.ts";
import { play } from "./schedule.ts";
import type { World } from "./world.ts";

/** Schedules in which states are validated while faults strike. */
const SCHEDULES = 1500;
const EVERY = 3;

function played(seed: number, more: { readonly forgetful?: boolean; readonly patient?: boolean } = {}) {
  let world: World | null = null;
  const schedule = scheduleOf(seed);
  const { violation } = play(schedule, { validateEvery: EVERY, ...more }, (made) => {
    world = made;
  });
  return { violation, world: world as unknown as World, schedule };
}

/** What the records say in the end, by step. */
function validationsOf({ records }: World) {
  const found = new Map<number, { readonly samples: number; readonly correct: number; readonly loss: number }[]>();
  for (const record of records) {
    if (record.kind === "truncate") for (const step of found.keys()) if (step > record.tip.step) found.delete(step);
    if (record.kind !== "validation") continue;
    const { step, samples, correct, loss } = record.validation;
    found.set(step, [...(found.get(step) ?? []), { samples, correct, loss }]);
  }
  return found;
}

test(`in ${SCHEDULES} schedules of faults every state that is due is validated once, with the figures of an undisturbed run`, () => {
  const seen = { done: 0, missed: 0 };
  for (let seed = 0; seed < SCHEDULES; seed++) {
    const { violation, world, schedule } = played(seed);
    expect(violation, `seed ${seed}`).toBeNull();
    const found = validationsOf(world);
    const due = Array.from({ length: Math.ceil(schedule.totalSteps / EVERY) - 1 }, (_, i) => EVERY * (i + 1));
    expect([...found.keys()], `seed ${seed}`).toEqual(due);
    for (const [step, all] of found) {
      expect(all, `seed ${seed}, step ${step}`).toHaveLength(1);
      if (all[0]!.samples === 0) {
        seen.missed += 1;
        continue;
      }
      seen.done += 1;
      const batches = Array.from({ length: BATCHES }, (_, batch) => countsOf(world.line.content(step), batch));
      const sum = (field: "samples" | "correct" | "loss") =>
        batches.reduce((total, counts) => total + counts[field], 0);
      expect(all, `seed ${seed}, step ${step}`).toEqual([
        { samples: sum("samples"), correct: sum("correct"), loss: sum("loss") },
      ]);
    }
  }
  // Given up only where all that held the state were lost while a newcomer had a newer one.
  expect(seen.done).toBeGreaterThan(3800);
  expect(seen.missed).toBeLessThan(0.02 * seen.done);
}, 120_000);

test("a state that nobody keeps is given up, and the run goes on to its end", () => {
  const { violation, world } = played(4, { forgetful: true });
  expect(violation).toBeNull();
  expect([...validationsOf(world).values()].flat().every(({ samples }) => samples === 0)).toBe(true);
});

test("where a run may end at its best state none is missed: it goes back where all that held one are lost", () => {
  for (let seed = 200; seed < 500; seed++) {
    const { violation, world, schedule } = played(seed, { patient: true });
    // It ends at a former state where that was better.
    if (violation !== "no checkpoint of the last step") expect(violation, `seed ${seed}`).toBeNull();
    const last = schedule.totalSteps;
    const due = Array.from({ length: Math.ceil(last / EVERY) }, (_, i) => Math.min(last, EVERY * (i + 1)));
    const found = [...validationsOf(world)].map(([step, all]) => [step, ...all.map(({ samples }) => samples > 0)]);
    expect(found, `seed ${seed}`).toEqual(due.map((step) => [step, true]));
  }
}, 60_000);
