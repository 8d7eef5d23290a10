import type { MachineState } from "../../coordinator/machine/state.ts";
import type { LedgerEntry } from "../../shared/protocol/trailer.ts";
import { compareViews, sameView, type Tip, type View, viewName } from "../../shared/protocol/view.ts";
import type { SimWorker } from "./sim-worker.ts";
import type { World } from "./world.ts";

/**
 * What must hold in every schedule, by name; a broken one ends the schedule with a Violation that names it. Each is
 * known to be able to fail: simulation.test.ts holds for every one a guard whose loss breaks it, or breaks it by hand.
 */
export const INVARIANTS = {
  "every-sample-once": "the recorded line holds every step once, in order, each with all shards once",
  "no-half-step": "no state is read, sent, hashed or computed on while an update is half done",
  "equal-states": "whoever holds step s of the line holds the state and lineage of the undisturbed run's step s",
  "final-on-the-line": "a final step carries the lineage and state hash of the undisturbed run",
  "same-end": "the run ends at its last step with a checkpoint of the undisturbed run's last state",
  "sound-checkpoints": "what becomes a checkpoint is a state of the undisturbed run",
  "one-step-apart": "members of a view are at most one step apart",
  "no-forgotten-views": "streams are open for the present, the left and the planned view, and for no other",
  "one-content-per-id": "two views of one id are equal",
  "promises-kept": "nobody enters a view below one that it promised",
  "leavers-not-missed": "a leaver is let go only when no member of the next view is still in the view that it left",
  "silence-noticed": "who is silent for the time-out is evicted by the next tick, unless all are or nobody may be",
  "nothing-undone":
    "the base of a new view is the highest sound state among its members, unless a checkpoint was loaded",
  progress: "the run ends within a bound of virtual time once the faults have stopped",
} as const;

export type Invariant = keyof typeof INVARIANTS;

/** Broken promise of the protocol, found by the simulation. */
export class Violation extends Error {
  readonly invariant: Invariant;
  constructor(invariant: Invariant, message: string) {
    super(message);
    this.invariant = invariant;
  }
}

/** Called after every tick of a coordinator. */
export function checkSilence(machine: MachineState, now: number): void {
  const { heartbeatTimeout } = machine.settings.timing;
  if (now < machine.graceUntil || machine.phase === "finished") return;
  const live = [...machine.workers.values()].filter((worker) => !worker.evicted && worker.ready);
  const silent = live.filter((worker) => now - worker.lastHeard > heartbeatTimeout);
  if (silent.length > 0 && silent.length < live.length)
    throw new Violation("silence-noticed", `${silent[0]!.incarnation} is silent and nobody cares`);
}

/** Called with every final step, by the member that knows of it and by the coordinator. */
export function checkFinal({ step, lineage, stateHash }: LedgerEntry, { line }: World): void {
  const tip = line.tip(step + 1);
  if (lineage !== tip.lineage) throw new Violation("final-on-the-line", `final step ${step} is off the line`);
  if (stateHash !== tip.stateHash) throw new Violation("final-on-the-line", `final step ${step} carries a wrong state`);
}

/** Called with every final step that is recorded. */
export function checkShards({ step, shards }: LedgerEntry, { options }: World): void {
  if (shards.length !== options.shards || shards.some(({ shard }, i) => shard !== i))
    throw new Violation("every-sample-once", `step ${step} does not hold every shard exactly once`);
}

/** Called as a worker is let go. */
export function checkRelease(leaver: SimWorker, { ruler, workers }: World): void {
  const next = leaver.member.view;
  const { installed, change, workers: entries } = ruler?.machine ?? {};
  if (next === null || next.predecessor === null || change !== null || !sameView(installed?.id ?? null, next.id))
    return;
  for (const { incarnation } of next.members) {
    const peer = workers.get(incarnation);
    if (peer === undefined || !peer.alive || entries?.get(incarnation)?.evicted !== false) continue;
    if (peer.member.step !== null && sameView(peer.member.view?.id ?? null, next.predecessor))
      throw new Violation("leavers-not-missed", `${leaver.incarnation} was let go, and ${incarnation} still needs it`);
  }
}

/** Called when an unplanned view has been recorded, before anybody installs it. */
export function checkBase(view: View, base: Tip, { workers, line }: World): void {
  for (const { incarnation } of view.members) {
    const worker = workers.get(incarnation);
    if (worker === undefined || !worker.alive || !worker.readable || !worker.member.whole) continue;
    const ahead = worker.contentStep > base.step && worker.content === line.content(worker.contentStep);
    if (ahead)
      throw new Violation("nothing-undone", `${incarnation} at ${worker.contentStep} goes back to ${base.step}`);
  }
}

/** Called after every update. */
export function checkState(worker: SimWorker, world: World): void {
  world.note(() => `${worker.incarnation} committed -> ${worker.contentStep}`);
  if (world.tainted.size > 0) return;
  if (worker.content !== world.line.content(worker.contentStep)) {
    throw new Violation("equal-states", `${worker.incarnation} holds a wrong state at step ${worker.contentStep}`);
  }
  if (worker.member.tip.lineage !== world.line.tip(worker.contentStep).lineage) {
    throw new Violation("equal-states", `${worker.incarnation} holds a wrong lineage at step ${worker.contentStep}`);
  }
  const view = worker.member.view;
  if (!view?.members.some((m) => m.incarnation === worker.incarnation)) return; // It left.
  for (const member of view.members) {
    const peer = world.workers.get(member.incarnation);
    if (peer === undefined || !peer.alive || peer === worker || !peer.member.whole) continue;
    if (viewName(peer.member.view?.id ?? { term: 0, number: 0 }) !== viewName(view.id)) continue;
    if (compareViews(peer.member.promised ?? view.id, view.id) > 0) continue; // It left by its promise.
    if (Math.abs(peer.contentStep - worker.contentStep) > 1)
      throw new Violation("one-step-apart", "members are more than one step apart");
  }
}

/** Every view that was ever opened. */
export class ViewContents {
  private readonly known = new Map<string, string>();

  check(view: View): void {
    const text = JSON.stringify(view);
    const known = this.known.get(viewName(view.id)) ?? text;
    if (known !== text) throw new Violation("one-content-per-id", `two contents of view ${viewName(view.id)}`);
    this.known.set(viewName(view.id), text);
  }
}
