import { GUARDS, type Guard } from "../../shared/protocol/guards.ts";
import { play, type Schedule } from "./schedule.ts";

/** The schedule of a seed: 1 to 5 workers, 3 to 6 faults; some with few shards, more steps, or more workers needed. */
export function scheduleOf(seed: number): Schedule {
  const workers = 1 + (seed % 5);
  return {
    seed,
    workers,
    minWorkers: seed % 6 === 5 ? Math.min(workers, 3) : 1,
    shards: seed % 3 === 2 ? 3 : 8,
    totalSteps: seed % 4 === 1 ? 24 : 12,
    faults: 3 + (seed % 4),
  };
}

/** The first seed whose schedule breaks a promise when a guard is taken away; null where none of `tries` does. */
export function seedThatCatches(
  guard: Guard,
  tries: number,
): { readonly seed: number; readonly violation: string } | null {
  for (let seed = 0; seed < tries; seed++) {
    const result = play(scheduleOf(seed), { without: new Set([guard]) });
    if (result.violation !== null) return { seed, violation: result.violation.split("\n")[0]! };
  }
  return null;
}

if (process.argv[1]?.endsWith("guards.js")) {
  for (const guard of Object.keys(GUARDS) as Guard[]) {
    const caught = seedThatCatches(guard, Number(process.argv[2] ?? 20_000));
    console.log(`${guard.padEnd(24)} ${caught === null ? "NOT CAUGHT" : `seed ${caught.seed}: ${caught.violation}`}`);
  }
}
