import { sizeOf } from "../../shared/plan/tree.ts";
import { type Incarnation, sameView, type View } from "../../shared/protocol/view.ts";
import { slowestOf } from "./assign.ts";
import type { MachineState, Turn, WorkerEntry } from "./state.ts";

/**
 * Shards follow measured speed: a planned view with another split is proposed once it has promised enough for a number
 * of steps in a row (`place.balance`). Each move makes the next one wait twice as long, so that speeds which go up and
 * down do not make shards go back and forth.
 */

/** Moves count for this many times the steps that the first one waited. */
const REMEMBERED = 100;
const MOST_DOUBLINGS = 5;

/** Takes over what a member says of its own speed. */
export function measure({ state, now }: Turn, worker: WorkerEntry): void {
  const { installed } = state;
  const { progress, speed } = worker;
  if (progress === null || installed === null || !sameView(progress.view, installed.id)) return;
  const shards = shardsOf(installed, worker.incarnation);
  if (shards === 0) {
    if (speed !== null && speed.restingSince === null) worker.speed = { ...speed, restingSince: now };
    return;
  }
  if (progress.shardMillis <= 0) return;
  const micros = Math.max(1, Math.round(progress.shardMillis * 1000));
  const returned = speed !== null && speed.restingSince !== null;
  worker.speed = { micros, restingSince: null, returns: (speed?.returns ?? 0) + (returned ? 1 : 0) };
}

/**
 * Microseconds that a shard is expected to take at each of these workers. Whoever was never measured is taken for as
 * fast as the middle one of those that were. A worker that has no shards cannot be measured: the longer it rests the
 * faster it is taken to be, half the time after each `slowRetry`, and the wait doubles every time that it disappoints.
 */
export function believedTimes(state: MachineState, workers: readonly WorkerEntry[], now: number): number[] {
  const known = workers.flatMap((worker) => (worker.speed === null ? [] : [believed(state, worker, now)!]));
  const middle = [...known].sort((a, b) => a - b)[known.length >> 1] ?? 1;
  return workers.map((worker) => believed(state, worker, now) ?? middle);
}

function believed(state: MachineState, { speed }: WorkerEntry, now: number): number | null {
  if (speed === null) return null;
  if (speed.restingSince === null) return speed.micros;
  const patience = state.settings.timing.slowRetry * 2 ** Math.min(speed.returns, MOST_DOUBLINGS);
  const halvings = Math.min(30, Math.floor((now - speed.restingSince) / patience));
  return Math.max(1, Math.round(speed.micros / 2 ** halvings));
}

/** The reason for another split of the shards among the same members, or null. Notes the move when it is due. */
export function balanceIfDue({ state, now }: Turn, installed: View): string | null {
  const { balancing, settings, progressStep } = state;
  const promised = promisedGain(state, installed, now);
  if (promised === null || promised.gain <= settings.balance.gain) {
    balancing.since = null;
    return null;
  }
  balancing.since ??= progressStep;
  balancing.moves = balancing.moves.filter((step) => progressStep - step < REMEMBERED * settings.balance.steps);
  const patience = settings.balance.steps * 2 ** Math.min(balancing.moves.length, MOST_DOUBLINGS);
  if (progressStep - balancing.since < patience) return null;
  balancing.since = null;
  balancing.moves.push(progressStep);
  const { before, after } = promised;
  return `balance: ${millis(after)} instead of ${millis(before)} for the slowest worker's shards`;
}

function promisedGain(state: MachineState, installed: View, now: number) {
  const workers = installed.members.map((member) => state.workers.get(member.incarnation)!);
  // Who computes and has yet to be measured would be judged by a guess.
  const measured = installed.members.every(
    ({ entry, shards }, i) => entry !== "joining" && (sizeOf(shards) === 0 || workers[i]!.speed !== null),
  );
  if (!measured || workers.length < 2) return null;
  const times = believedTimes(state, workers, now);
  const before = Math.max(...installed.members.map(({ shards }, i) => sizeOf(shards) * times[i]!));
  const after = slowestOf(state.settings.shards, times);
  return { before, after, gain: before === 0 ? 0 : 1 - after / before };
}

const shardsOf = (view: View, incarnation: Incarnation): number => {
  const shards = view.members.find((member) => member.incarnation === incarnation)?.shards;
  return shards === undefined ? 0 : sizeOf(shards);
};
const millis = (micros: number) => `${Number((micros / 1000).toPrecision(3))} ms`;
