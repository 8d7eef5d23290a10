import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { Random } from "../simulation/clock.ts";
import { allCells, atTheEnd, type Cell, parseCell } from "./cell.ts";
import { DisturbedRun, NotSeen } from "./disturbed-run.ts";
import { verdict } from "./play.ts";
import { type QuietRun, quietRun } from "./quiet-run.ts";

/**
 * Real runs under random faults that overlap as they like:
 *
 *     npm run soak -- [--seeds 20] [--from 0] [--faults 10] [--keep]
 *
 * A seed decides which faults are injected and when; what they meet is up to the machine. Each run must end by itself
 * with the bits of one undisturbed worker. Exits with 1 where one does not.
 */
const { values } = parseArgs({
  options: {
    seeds: { type: "string", default: "20" },
    from: { type: "string", default: "0" },
    faults: { type: "string", default: "10" },
    keep: { type: "boolean", default: false },
  },
});
const STEPS = 1000;
/** A schedule with fewer faults shows nothing. */
const LEAST = 8;
/** Steps at the end in which nothing is injected any more, so that the run can show how it heals. */
const CALM = 20;
/** Milliseconds between two injections. */
const MOST_GAP = 2500;

const directory = mkdtempSync(join(tmpdir(), "lockstep-soak-"));
const wanted = Number(values.faults);
const say = (text: string) => process.stdout.write(`${text}\n`);

const pick = <T>(random: Random, list: readonly T[]): T => list[random.below(list.length)]!;

/** A fault of the matrix for a random process, sometimes without a moment. */
function draw(random: Random, workers: number): Cell {
  const cell = pick(
    random,
    allCells().filter((candidate) => !atTheEnd(candidate) && candidate.target !== "all"),
  );
  const { name, moment } = cell.fault;
  const millis = name === "freeze" ? 300 + random.below(4000) : 0;
  const fault = { ...cell.fault, millis, moment: random.below(4) === 0 ? null : moment };
  return { target: cell.target === "coordinator" ? cell.target : `worker-${random.below(workers)}`, fault };
}

async function disturb(run: DisturbedRun, random: Random): Promise<void> {
  await run.until("the first steps", () => run.step >= 3);
  // Everybody at once, in the middle of the rest.
  const worst = random.below(wanted);
  for (let count = 0; run.struck.length < wanted && run.step < STEPS - CALM && run.ended === null; count++) {
    const cell = count === worst ? null : draw(random, run.workers);
    if (cell === null) await Promise.all(run.names.map((name) => run.tryToInject(parseCell(`${name}/kill`))));
    else await run.tryToInject(cell);
    await sleep(random.below(MOST_GAP));
  }
}

async function soak(quiet: QuietRun, seed: number): Promise<string | null> {
  const random = new Random(seed);
  const workers = 2 + (seed % 3);
  const run = new DisturbedRun(quiet, join(directory, `seed-${seed}`), workers);
  let failure: string | null;
  const started = Date.now();
  try {
    await disturb(run, random);
    failure = await verdict(run, quiet);
    // Some meet nobody: what is armed for a moment may wait for one that does not come.
    if (run.struck.length < Math.min(LEAST, wanted)) failure ??= `only ${run.struck.length} faults struck`;
  } catch (error) {
    if (!(error instanceof NotSeen)) throw error;
    failure = error.message;
  } finally {
    await run.abandon();
  }
  const seconds = ((Date.now() - started) / 1000).toFixed(0);
  say(
    `${failure === null ? "ok    " : "FAILED"} seed ${seed}  ${workers} workers  ${run.struck.length} faults, ${run.lost()} lost, ` +
      `${run.views()} views  ${seconds} s${failure === null ? "" : `  ${failure}`}`,
  );
  if (failure === null && !values.keep) rmSync(run.out, { recursive: true, force: true });
  if (failure !== null) {
    say(`       ${run.struck.map(({ process: name, fault }) => `${name}/${fault}`).join(" ")}`);
    say(`       its files: ${run.out}; to repeat: npm run soak -- --keep --from ${seed} --seeds 1`);
  }
  return failure;
}

let failed = 0;
const quiet = await quietRun(directory, STEPS);
const [from, seeds] = [Number(values.from), Number(values.seeds)];
for (let seed = from; seed < from + seeds; seed++) if ((await soak(quiet, seed)) !== null) failed += 1;
say(`${seeds} seeds, ${failed} failed`);
if (failed === 0 && !values.keep) rmSync(directory, { recursive: true, force: true });
process.exit(failed === 0 ? 0 : 1);
