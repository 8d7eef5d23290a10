import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { GUARDS, type Guard } from "../../shared/protocol/guards.ts";
import { type Catch, catchesIn, documentOf } from "./document.ts";
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

/** A seed whose schedule breaks a promise when a guard is taken away, `known` before others; null where none does. */
export function seedThatCatches(guard: Guard, tries: number, known: readonly number[] = []): Catch | null {
  const without = new Set([guard]);
  const seeds = [...known, ...Array.from({ length: tries }, (_, seed) => seed)];
  for (const seed of seeds) {
    const { invariant } = play(scheduleOf(seed), { without });
    if (invariant !== null) return { guard, seed, invariant };
  }
  return null;
}

const DOCUMENT = "test/simulation/README.md";

if (process.argv[1]?.endsWith("guards.js")) {
  const [tries = 40_000] = process.argv.slice(2).map(Number).filter(Number.isInteger);
  const before = existsSync(DOCUMENT) ? catchesIn(readFileSync(DOCUMENT, "utf8")) : [];
  const catches = (Object.keys(GUARDS) as Guard[]).flatMap((guard) => {
    const known = before.filter((row) => row.guard === guard).map(({ seed }) => seed);
    const caught = seedThatCatches(guard, tries, known);
    console.log(`${guard.padEnd(24)} ${caught === null ? "NOT CAUGHT" : `seed ${caught.seed}: ${caught.invariant}`}`);
    return caught ?? [];
  });
  if (process.argv.includes("--write")) writeFileSync(DOCUMENT, documentOf(catches));
}
