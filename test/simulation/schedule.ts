import { crashCoordinator, cut, flip, freeze, kill, leave, slow, usurpCoordinator } from "./faults.ts";
import { type Invariant, Violation } from "./invariants.ts";
import type { WorldOptions } from "./options.ts";
import { World } from "./world.ts";

export interface Schedule {
  readonly seed: number;
  readonly workers: number;
  readonly minWorkers: number;
  readonly shards: number;
  readonly totalSteps: number;
  readonly faults: number;
}

export interface Result {
  readonly violation: string | null;
  /** What was broken; null with a violation where the code under test threw. */
  readonly invariant: Invariant | null;
  readonly trace: readonly string[];
  readonly faults: number;
  readonly millis: number;
}

/** Virtual time within which a run must end once the faults have stopped. */
const BOUND = 120_000;

/**
 * Runs one random schedule of faults to its end and says which promise broke, if any.
 * @param spoil breaks something by hand, to show that it is noticed
 */
export function play(
  schedule: Schedule,
  extra: Partial<WorldOptions> = {},
  spoil: (world: World) => void = () => {},
): Result {
  let world: World | null = null;
  let violation: string | null = null;
  let invariant: Invariant | null = null;
  try {
    world = new World({ ...schedule, ...extra });
    plant(world, schedule.faults);
    spoil(world);
    run(world);
  } catch (error) {
    if (!(error instanceof Violation) && !(error instanceof TypeError)) throw error;
    violation = error instanceof Violation ? error.message : `${error.stack}`;
    invariant = error instanceof Violation ? error.invariant : null;
  }
  return { violation, invariant, trace: world?.trace ?? [], faults: world?.faults ?? 0, millis: world?.clock.now ?? 0 };
}

function plant(world: World, faults: number): void {
  const horizon = 3000;
  if (world.options.seed % 8 === 7) return plantLateFlip(world);
  for (let i = 0; i < faults; i++) {
    world.clock.after(300 + world.random.next() * horizon, () => strike(world));
  }
  // Whoever is left after the faults gets company, so that progress is always possible.
  const helper = () => {
    if (world.outcome !== null) return;
    const alive = [...world.workers.values()].filter((w) => w.alive && !w.stuck);
    for (let i = alive.length; i < world.options.minWorkers; i++) world.addWorker();
    world.clock.after(2000, helper);
  };
  world.clock.after(2000, helper);
}

/**
 * A bit flips during an update: nobody can know until the next trailers meet, so nothing else happens until then; a
 * protocol cannot save a wrong state whose only witnesses die.
 */
function plantLateFlip(world: World): void {
  world.clock.after(200 + world.random.next() * 600, () => {
    const level = [...world.workers.values()].filter((w) => w.alive && w.member.step?.level === true);
    if (level.length < 2) return;
    level[world.random.below(level.length)]!.flipInUpdate = true;
    world.faults += 3;
  });
  world.clock.after(400, () => void world.addWorker());
}

function strike(world: World): void {
  if (world.outcome !== null) return;
  const { random } = world;
  const alive = [...world.workers.values()].filter((w) => w.alive);
  const victim = alive[random.below(Math.max(1, alive.length))];
  world.faults += 1;
  const kind = random.below(15);
  if (kind <= 1 && victim !== undefined) return kill(world, victim);
  if (kind === 2 && victim !== undefined && !victim.frozen) return freeze(world, victim, 200 + random.next() * 4000);
  if (kind === 3) return void world.addWorker();
  if (kind === 4) return crashCoordinator(world);
  if (kind === 5) {
    world.crashBetween = 0.3;
    return;
  }
  if (kind === 6) return usurpCoordinator(world, 500 + random.next() * 3000);
  if (kind === 7 && victim !== undefined) {
    const other = alive[random.below(alive.length)]!;
    const name = random.next() < 0.3 || other === victim ? "coordinator" : other.incarnation;
    return cut(world, victim.incarnation, name, 100 + random.next() * 4000, random.next() < 0.5);
  }
  if (kind === 8 && victim !== undefined) return world.hangUp(victim, false);
  if (kind === 9 && victim !== undefined && world.tainted.size === 0 && victim.member.step?.computed === false)
    return flip(world, victim);
  if (kind === 10 && victim !== undefined && !victim.frozen) return leave(world, victim);
  if (kind === 11 && victim !== undefined)
    return slow(world, victim, 1.5 + random.next() * 10, 500 + random.next() * 3000);
  if (kind === 14 && victim !== undefined) {
    world.note(() => `STUCK ${victim.incarnation}`);
    victim.stuck = true;
    return;
  }
  // Up beyond the number of shards, where the last ones are standbys.
  if (kind === 12) for (let i = 0; i < 2 + random.below(4); i++) world.addWorker();
  // Down, sometimes to nobody.
  if (kind === 13) for (const worker of alive) if (!worker.frozen && random.next() < 0.7) leave(world, worker);
}

function run(world: World): void {
  let guard = 0;
  while (world.outcome === null) {
    if (world.clock.now > BOUND) throw new Violation("progress", `no end after ${BOUND} ms: ${stuck(world)}`);
    if (guard++ > 2_000_000) throw new Violation("progress", "too many events");
    if (!world.clock.next()) throw new Violation("progress", "nothing left to happen");
  }
  if (world.outcome.kind !== "done") throw new Violation("same-end", `ended ${JSON.stringify(world.outcome)}`);
  const last = world.checkpoints.findLast((c) => c.tip.step === world.totalSteps);
  if (last === undefined) throw new Violation("same-end", "no checkpoint of the last step");
  if (last.content !== world.line.content(world.totalSteps))
    throw new Violation("same-end", "the end is not the undisturbed run's");
  // The surviving line in the records: every step once, in order.
  let step = 0;
  for (const record of world.records) {
    if (record.kind === "truncate") step = record.tip.step;
    if (record.kind === "final") {
      if (record.entry.step !== step)
        throw new Violation("every-sample-once", `the ledger jumps from ${step} to ${record.entry.step}`);
      step += 1;
    }
  }
  if (step !== world.totalSteps)
    throw new Violation("every-sample-once", `the ledger ends at step ${step} of ${world.totalSteps}`);
}

function stuck(world: World): string {
  const c = world.ruler;
  const workers = [...world.workers.values()].filter((w) => w.alive);
  return [
    `coordinator ${c?.term} ${c?.machine.phase} change=${c?.machine.change?.reason} ledger=${c?.machine.ledger?.step} planned=${c?.machine.planned?.reason} said=${c?.machine.waiting?.detail}`,
    ...workers.map(
      (w) =>
        `${w.incarnation} link=${w.link} frozen=${w.frozen} view=${w.member.view?.id.term}.${w.member.view?.id.number} promised=${w.member.promised?.term}.${w.member.promised?.number} tip=${w.member.tip.step} word=${w.member.word} step=${w.member.step?.step} idle=${w.member.idle} blocked=${w.member.step?.blocked} pull=${w.member.step?.pull} computed=${w.member.step?.computed} reduced=${w.member.step?.reduced} trailers=${[...(w.member.step?.trailers.keys() ?? [])]}`,
    ),
  ].join("\n");
}
