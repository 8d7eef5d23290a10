import { compareViews, type Incarnation, sameView, type View, viewName } from "../../shared/protocol/view.ts";
import { balanceIfDue } from "./balance.ts";
import { adopt, announce, inOrder, memberList } from "./change.ts";
import { guarded, nextId, say, send, type Turn, type WorkerEntry } from "./state.ts";

/**
 * Planned change: joiners, leavers, proven joiners that get shards, and the stop, announced inside the present view. It
 * takes effect after the first step whose trailers all carry its id.
 */
export function planIfDue(turn: Turn): void {
  const { state, now } = turn;
  const { installed, planned, change } = state;
  if (installed === null || change !== null || planned !== null || state.phase !== "running") return;
  if (installed.kind === "stop" || now < state.graceUntil) return;
  if (state.progressStep >= state.settings.totalSteps) return;

  const entries = installed.members.map((member) => ({ member, worker: state.workers.get(member.incarnation)! }));
  const proves = (worker: WorkerEntry) =>
    worker.progress?.level === true && sameView(worker.progress.view, installed.id);
  const level = entries.filter(({ member, worker }) => member.entry !== "joining" || proves(worker));
  const late = entries.filter(
    ({ member, worker }) =>
      member.entry === "joining" && !proves(worker) && now - state.installedAt > state.settings.timing.levelTimeout,
  );
  const staying = level.filter(({ worker }) => worker.leaving === null).map(({ worker }) => worker);
  const pulling = entries
    .filter((e) => !level.includes(e) && !late.includes(e) && e.worker.leaving === null)
    .map(({ worker }) => worker);
  const members = new Set(installed.members.map((m) => m.incarnation));
  const room = state.settings.shards - staying.length - pulling.length;
  const outside = [...state.workers.values()]
    .filter((w) => w.ready && w.free && w.connected && !w.evicted && w.leaving === null && !members.has(w.incarnation))
    .filter((w) => now >= w.notBefore);
  const fresh = outside.slice(0, Math.max(0, room));
  for (const worker of outside.slice(fresh.length)) sayStandby(turn, worker);

  const reasons: string[] = [];
  const leaving = entries.filter(({ worker }) => worker.leaving !== null).map(({ worker }) => worker);
  if (state.stopping !== null) reasons.push(`stop: ${state.stopping}`);
  if (leaving.length > 0) reasons.push(`leave: ${names(leaving)}`);
  if (late.length > 0) reasons.push(`not level in time: ${names(late.map((e) => e.worker))}`);
  if (fresh.length > 0) reasons.push(`join: ${names(fresh)}`);
  const proven = level.filter(({ member }) => member.entry === "joining").map(({ worker }) => worker);
  if (proven.length > 0) reasons.push(`level: ${names(proven)}`);
  if (reasons.length === 0) {
    const balance = balanceIfDue(turn, installed);
    if (balance === null) return;
    reasons.push(balance);
  }
  for (const { worker } of late) worker.notBefore = now + state.settings.timing.grace;

  if (staying.length === 0 && state.stopping === null) return; // The last ones leave by way of a checkpoint.
  const kind = state.stopping === null ? "train" : "stop";
  const list =
    kind === "stop"
      ? installed.members.filter((m) => level.some((e) => e.member === m))
      : memberList(turn, inOrder(state, staying), [...pulling, ...fresh], () => "level");
  const view: View = { id: nextId(turn), predecessor: installed.id, kind, members: list };
  const reason = reasons.join("; ");
  turn.actions.push({ kind: "recordView", view, base: null, reason });
  for (const worker of fresh) {
    worker.free = false;
    worker.standby = false;
  }
  for (const incarnation of new Set([...members, ...list.map((m) => m.incarnation)])) {
    send(turn, incarnation, { kind: "plan", view });
  }
  state.planned = { view, reason, predecessor: installed, switched: new Set(), step: null };
}

/** Every shard has a worker already: one more waits until it is needed, and says so once. */
function sayStandby(turn: Turn, worker: WorkerEntry): void {
  if (worker.standby) return;
  worker.standby = true;
  const { shards } = turn.state.settings;
  const why = `all ${shards} shards have a worker; it takes the place of whoever leaves`;
  say(turn, { type: "worker", change: "standby", worker: worker.incarnation, name: worker.name, why });
}

const names = (workers: readonly WorkerEntry[]) => workers.map((w) => w.name).join(", ");

/** A member runs the planned view from `step` on. */
export function onSwitched(turn: Turn, from: Incarnation, id: View["id"], step: number): void {
  const { state } = turn;
  const { planned } = state;
  if (planned === null || !sameView(planned.view.id, id)) return;
  planned.switched.add(from);
  if (planned.step === null) {
    planned.step = step;
    adopt(turn, planned.view, null);
    announce(turn, planned.view, true, planned.reason, step);
  }
  settlePlan(turn);
}

/** Once everybody has switched the old view is history, and those that left it may go. */
export function settlePlan(turn: Turn): void {
  const { state } = turn;
  const { planned } = state;
  if (planned === null || planned.step === null) return;
  const carried = planned.view.members.filter((member) =>
    planned.predecessor.members.some((m) => m.incarnation === member.incarnation),
  );
  if (guarded(turn, "leavers-wait") && !carried.every((member) => planned.switched.has(member.incarnation))) return;
  state.planned = null;
  for (const member of planned.predecessor.members) {
    if (planned.view.members.some((m) => m.incarnation === member.incarnation)) continue;
    const worker = state.workers.get(member.incarnation);
    if (worker === undefined || worker.evicted) continue;
    if (worker.leaving !== null) releaseLeaver(turn, worker);
    else worker.free = true;
  }
}

export function releaseLeaver(turn: Turn, worker: WorkerEntry): void {
  send(turn, worker.incarnation, { kind: "release", reason: worker.leaving ?? "left" });
  worker.evicted = true;
  say(turn, {
    type: "worker",
    change: "left",
    worker: worker.incarnation,
    name: worker.name,
    why: worker.leaving ?? "",
  });
}

/**
 * After a take-over: a recorded view whose members all came back and still run it goes on as it is, together with the
 * plan that was announced inside it, which some of them may have entered already.
 */
export function adoptInherited(turn: Turn): boolean {
  const { state } = turn;
  const here = (worker: WorkerEntry | undefined, view: View): worker is WorkerEntry =>
    worker?.ready === true && worker.connected && !hasLeft(worker, view);
  const at = (worker: WorkerEntry | undefined, view: View) =>
    here(worker, view) && sameView(worker.standing?.view ?? null, view.id);
  const workersOf = (view: View) => view.members.map((m) => state.workers.get(m.incarnation));
  const newest = state.inherited.at(-1);
  if (newest === undefined) return false;
  const before = state.inherited.find((v) => newest.predecessor !== null && sameView(v.id, newest.predecessor)) ?? null;
  const settled = workersOf(newest).every((worker) => at(worker, newest));
  const between =
    before !== null &&
    workersOf(before).every((worker) => at(worker, before) || at(worker, newest)) &&
    workersOf(newest).every((worker) => here(worker, newest));
  if (!settled && !between) return false;

  const switched = newest.members.filter((m) => at(state.workers.get(m.incarnation), newest));
  const current = settled || switched.length > 0 ? newest : before!;
  const detail = `view ${viewName(current.id)} goes on under term ${state.settings.term}`;
  say(turn, { type: "phase", phase: "running", detail });
  state.phase = "running";
  adopt(turn, current, null);
  if (settled) return true;
  state.planned = {
    view: newest,
    reason: "announced before the take-over",
    predecessor: before!,
    switched: new Set(switched.map((m) => m.incarnation)),
    step: switched.length > 0 ? Math.max(...switched.map((m) => tipStep(state.workers.get(m.incarnation)))) : null,
  };
  const told = new Set([...before!.members, ...newest.members].map((m) => m.incarnation));
  for (const incarnation of told) send(turn, incarnation, { kind: "plan", view: newest });
  return true;
}

/** After a take-over: members of the last view that are not heard of any more were lost with the coordinator before. */
export function sayMissing(turn: Turn): void {
  const { inherited, workers, settings } = turn.state;
  if (settings.resumed === true) return;
  for (const { incarnation } of inherited.at(-1)?.members ?? []) {
    if (workers.has(incarnation)) continue;
    const why = "it has not come back to the coordinator that took over";
    say(turn, { type: "worker", change: "lost", worker: incarnation, name: incarnation, why });
  }
}

/** It promised a higher view, which was never installed: it is closed, whatever view it was in. */
const hasLeft = ({ promised }: WorkerEntry, view: View) => promised !== null && compareViews(promised, view.id) > 0;

const tipStep = (worker: WorkerEntry | undefined) => worker?.standing?.tip.step ?? 0;
