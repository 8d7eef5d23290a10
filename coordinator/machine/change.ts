import type { Standing } from "../../shared/protocol/messages.ts";
import { type Incarnation, type Member, sameView, type Tip, type View, viewName } from "../../shared/protocol/view.ts";
import { assignShards } from "./assign.ts";
import { believedTimes } from "./balance.ts";
import { chooseBase } from "./choose-base.ts";
import {
  type Change,
  guarded,
  type MachineState,
  nameOf,
  nextId,
  say,
  send,
  type Turn,
  type WorkerEntry,
} from "./state.ts";
import { goOn, namesOf, waitFor, waitOrGiveUp, withMissing } from "./waiting.ts";

/**
 * Unplanned change: prepare to everybody who may be in a view, wait for the answer or the loss of each, choose the base,
 * install. Started again with a higher id whenever the circumstances change.
 */

export const membersOf = (state: MachineState): Set<Incarnation> =>
  new Set([
    ...(state.installed?.members ?? []).map((m) => m.incarnation),
    ...(state.planned?.view.members ?? []).map((m) => m.incarnation),
    ...(state.planned?.predecessor.members ?? []).map((m) => m.incarnation),
    ...(state.installed === null ? state.inherited.flatMap((v) => v.members.map((m) => m.incarnation)) : []),
  ]);

export function startChange(turn: Turn, reason: string): void {
  const { state, now } = turn;
  const since = state.change?.since ?? now;
  const members = membersOf(state);
  const id = nextId(turn);
  const awaited = (w: WorkerEntry) => members.has(w.incarnation) || (w.connected && !isStuck(turn, w));
  const live = [...state.workers.values()].filter((worker) => worker.ready && !worker.evicted);
  state.change = {
    id,
    reason,
    since,
    waiting: new Map(live.filter(awaited).map((w) => [w.incarnation, now])),
    answers: new Map(),
    restoring: null,
  };
  state.installed ??= null;
  for (const worker of live) {
    worker.idle = null;
    if (worker.connected) send(turn, worker.incarnation, { kind: "prepare", id });
  }
  tryInstall(turn);
}

/** It held up two views in a row: it may be heard, and it does not work. */
const isStuck = (turn: Turn, worker: WorkerEntry) => worker.heldUp >= 2 && guarded(turn, "stuck-workers-rest");

/** A worker became ready or came back while a change is under way: it takes part. */
export function includeInChange(turn: Turn, worker: WorkerEntry): void {
  const { change } = turn.state;
  if (change === null || change.answers.has(worker.incarnation)) return;
  // Whoever was lost in this change for being stuck is welcome to answer, and not waited for again.
  if (!isStuck(turn, worker)) change.waiting.set(worker.incarnation, turn.now);
  send(turn, worker.incarnation, { kind: "prepare", id: change.id });
}

export function onAnswer(turn: Turn, worker: WorkerEntry, standing: Standing): void {
  worker.standing = standing;
  const { change } = turn.state;
  if (change === null) return;
  change.waiting.delete(worker.incarnation);
  change.answers.set(worker.incarnation, standing);
  tryInstall(turn);
}

export function onRestored(turn: Turn, worker: WorkerEntry, standing: Standing): void {
  worker.standing = standing;
  const { change } = turn.state;
  if (change?.restoring == null) return;
  change.restoring.waiting.delete(worker.incarnation);
  change.answers.set(worker.incarnation, standing);
  tryInstall(turn);
}

/** Installs once every awaited answer is in and the base and enough members are there. */
export function tryInstall(turn: Turn): void {
  const { state, now } = turn;
  const { change } = state;
  if (change === null || state.phase === "finished") return;
  for (const waiting of [change.waiting, change.restoring?.waiting]) {
    for (const incarnation of waiting?.keys() ?? []) {
      const worker = state.workers.get(incarnation);
      if (worker === undefined || worker.evicted) waiting!.delete(incarnation);
    }
  }
  const answered = change.waiting.size === 0 || (!guarded(turn, "wait-for-all") && change.answers.size > 0);
  const restored = change.restoring === null || change.restoring.waiting.size === 0;
  if (!answered || !restored) return waitForAnswers(turn, change);
  const here = [...change.answers].filter(([incarnation]) => {
    const worker = state.workers.get(incarnation);
    return worker?.connected === true && !worker.evicted;
  });
  const enough = Math.max(1, state.settings.minWorkers);
  // A stuck worker's state is of no use: nobody gets level from it while it is a member. Better to go back a little.
  const able = here.filter(([incarnation]) => !isStuck(turn, state.workers.get(incarnation)!));
  const answers = new Map(able.length >= enough ? able : here);
  if (answers.size < enough) {
    const present = `${answers.size} of at least ${enough} workers ${answers.size === 1 ? "is" : "are"} there`;
    return waitOrGiveUp(turn, withMissing(state, present));
  }
  // The initial state can always be made again: it is the checkpoint of a run that has none.
  const initial = state.root === null ? null : { step: 0, lineage: state.root, stateHash: "" };
  const { fallback } = state;
  const standing = fallback === null ? answers : new Map([...answers].filter(([, s]) => s.tip.step === fallback.step));
  const choice = chooseBase(standing, state.recent, state.checkpoint ?? initial, {
    highest: guarded(turn, "highest-base"),
    majority: guarded(turn, "majority-of-hashes"),
  });
  if (choice.kind === "none") return waitOrGiveUp(turn, withMissing(state, choice.reason), "LS_NO_STATE");
  if (choice.kind === "restore") {
    // Live states may still come back after a take-over: a checkpoint is only used when that time is over.
    if (now < state.graceUntil) return waitFor(turn, withMissing(state, `live states may come back: ${choice.reason}`));
    return restore(turn, choice.tip, choice.reason, answers);
  }
  install(turn, answers, choice.base, choice.level, choice.lagging);
}

/** Answers come within milliseconds; what takes longer than silence may last is told. */
function waitForAnswers(turn: Turn, change: Change): void {
  const { heartbeatTimeout } = turn.state.settings.timing;
  const mute = overdue(turn, change.waiting, heartbeatTimeout);
  if (mute.length > 0) return waitFor(turn, `${namesOf(mute)} must answer before view ${viewName(change.id)}`);
  const loading = overdue(turn, change.restoring?.waiting, heartbeatTimeout);
  if (loading.length > 0)
    waitFor(turn, `${namesOf(loading)} must load the checkpoint of step ${change.restoring?.tip.step}`);
}

/**
 * A worker that is heard and does not answer is stuck, in an update for example, and is given up like one that is
 * silent. Loading a checkpoint may take as long as a first step.
 */
export function lateAnswers(turn: Turn): WorkerEntry[] {
  const { change, settings } = turn.state;
  const { answerTimeout, firstStepBudget } = settings.timing;
  return [
    ...overdue(turn, change?.waiting, answerTimeout),
    ...overdue(turn, change?.restoring?.waiting, firstStepBudget),
  ];
}

/** Who has been waited for longer than this many milliseconds. */
function overdue({ state, now }: Turn, waiting: ReadonlyMap<Incarnation, number> | undefined, limit: number) {
  const late = [...(waiting ?? [])].filter(([, since]) => now - since > limit);
  return late.flatMap(([incarnation]) => state.workers.get(incarnation) ?? []);
}

function restore(turn: Turn, tip: Tip, reason: string, answers: ReadonlyMap<Incarnation, Standing>): void {
  const { state } = turn;
  const change = state.change!;
  say(turn, { type: "fallback", fromStep: state.ledger?.step ?? 0, toStep: tip.step, reason });
  state.fallback = tip;
  change.restoring = { tip, waiting: new Map([...answers.keys()].map((incarnation) => [incarnation, turn.now])) };
  for (const incarnation of answers.keys()) send(turn, incarnation, { kind: "restore", tip });
}

function install(
  turn: Turn,
  answers: ReadonlyMap<Incarnation, Standing>,
  base: Tip,
  level: ReadonlySet<Incarnation>,
  lagging: ReadonlySet<Incarnation>,
): void {
  const { state, now } = turn;
  const change = state.change!;
  const answered = inOrder(
    state,
    [...answers.keys()].map((incarnation) => state.workers.get(incarnation)!),
  );
  const workers = outOfQuarantine(turn, answered, level);
  const withShards = workers.filter((w) => level.has(w.incarnation) || lagging.has(w.incarnation));
  const joining = workers.filter((w) => !withShards.includes(w));
  // Nobody gets level where no step follows: those that are not stay out and are released at the end.
  const resting = state.stopping !== null || base.step >= state.settings.totalSteps;
  const members = resting
    ? memberList(
        turn,
        workers.filter((w) => level.has(w.incarnation)),
        [],
        () => "level",
      )
    : memberList(turn, withShards, joining, (w) => (level.has(w.incarnation) ? "level" : "lagging"));
  const kind = state.stopping === null ? "train" : "stop";
  const view: View = { id: change.id, predecessor: null, kind, members };
  state.ledger ??= { step: 0, lineage: base.step === 0 ? base.lineage : (state.root ?? ""), stateHash: "" };
  turn.actions.push({ kind: "recordView", view, base, reason: change.reason });
  for (const member of members) {
    send(turn, member.incarnation, { kind: "install", view, base });
    const worker = state.workers.get(member.incarnation)!;
    worker.idle = null;
    worker.free = false;
  }
  for (const worker of answered) {
    if (!members.some((m) => m.incarnation === worker.incarnation)) worker.free = true;
  }
  say(turn, { type: "heal", id: viewName(view.id), reason: change.reason, agreementMillis: now - change.since });
  announce(turn, view, false, change.reason, base.step);
  state.change = null;
  state.fallback = null;
  state.planned = null;
  state.progressStep = base.step;
  adopt(turn, view, base);
}

/** Whoever was evicted of late stays out, unless there are too few without it or nobody else holds the base. */
function outOfQuarantine(
  turn: Turn,
  all: readonly WorkerEntry[],
  level: ReadonlySet<Incarnation>,
): readonly WorkerEntry[] {
  const { state, now } = turn;
  const trusted = all.filter((worker) => now >= worker.notBefore);
  const enough = trusted.length >= Math.max(1, state.settings.minWorkers);
  return enough && trusted.some((worker) => level.has(worker.incarnation)) ? trusted : all;
}

/** The view that the workers run from now on. */
export function adopt(turn: Turn, view: View, base: Tip | null): void {
  const { state, now } = turn;
  // A snapshot that was only asked for is asked of a member of the new view; one that goes on there has the request.
  const asked = view.members.find((m) => m.incarnation === state.snapshot?.from);
  if (state.snapshot !== null && state.snapshot.tip === null && asked?.entry !== "level") state.snapshot = null;
  goOn(state);
  state.installed = view;
  state.installedBase = base;
  state.installedAt = now;
  state.restingSince = null;
  state.progressAt = now;
  if (state.phase === "finishing") state.phase = "running";
  if (state.phase === "forming") {
    state.phase = "running";
    say(turn, { type: "phase", phase: "running", detail: `view ${viewName(view.id)}, ${view.members.length} members` });
  }
}

export function announce(turn: Turn, view: View, planned: boolean, reason: string, step: number | null): void {
  const shards: Record<string, string> = {};
  for (const member of view.members) {
    const name = nameOf(turn.state, member.incarnation);
    shards[name] = member.entry === "joining" ? "joining" : `${member.shards.from}-${member.shards.to}`;
  }
  say(turn, { type: "view", id: viewName(view.id), planned, reason, step, members: view.members.length, shards });
}

/** Members keep their order from view to view, workers of one host stand together, new ones come last. */
export function inOrder(state: MachineState, workers: readonly WorkerEntry[]): WorkerEntry[] {
  const rank = new Map((state.installed?.members ?? []).map((m, i) => [m.incarnation, i]));
  const hosts = [...new Set(workers.map((w) => w.host))];
  return [...workers].sort(
    (a, b) =>
      hosts.indexOf(a.host) - hosts.indexOf(b.host) ||
      (rank.get(a.incarnation) ?? Number.MAX_SAFE_INTEGER) - (rank.get(b.incarnation) ?? Number.MAX_SAFE_INTEGER) ||
      a.joinedAt - b.joinedAt ||
      (a.incarnation < b.incarnation ? -1 : 1),
  );
}

/** Members with shards first, then joiners as far as there are shards for them later; the rest stays standby. */
export function memberList(
  { state, now }: Turn,
  withShards: readonly WorkerEntry[],
  joining: readonly WorkerEntry[],
  entryOf: (worker: WorkerEntry) => Member["entry"],
): Member[] {
  const V = state.settings.shards;
  const computing = withShards.slice(0, V);
  const ranges = assignShards(V, believedTimes(state, computing, now));
  const members: Member[] = computing
    .map((w, i) => ({ incarnation: w.incarnation, address: w.address, shards: ranges[i]!, entry: entryOf(w) }))
    .sort((a, b) => a.shards.from - b.shards.from);
  for (const w of joining.slice(0, V - computing.length)) {
    members.push({ incarnation: w.incarnation, address: w.address, shards: { from: V, to: V }, entry: "joining" });
  }
  return members;
}

/** A worker redialled: whatever it may have missed is said again. */
export function repeatTo(turn: Turn, worker: WorkerEntry): void {
  const { state } = turn;
  if (!guarded(turn, "say-again")) return;
  // A request for a snapshot may have been lost with the stream: it is made again.
  if (state.snapshot?.from === worker.incarnation && !state.snapshot.storing) state.snapshot = null;
  if (state.change !== null) {
    if (state.change.restoring?.waiting.has(worker.incarnation)) {
      send(turn, worker.incarnation, { kind: "restore", tip: state.change.restoring.tip });
    } else if (!state.change.answers.has(worker.incarnation)) {
      includeInChange(turn, worker);
    }
    return;
  }
  const { installed, installedBase, planned } = state;
  const isMember = (view: View | null) => view?.members.some((m) => m.incarnation === worker.incarnation) ?? false;
  if (installed !== null && isMember(installed) && !sameView(worker.standing?.view ?? null, installed.id)) {
    if (installedBase !== null && installed.predecessor === null) {
      send(turn, worker.incarnation, { kind: "install", view: installed, base: installedBase });
    }
  }
  if (planned !== null && (isMember(planned.view) || isMember(planned.predecessor))) {
    send(turn, worker.incarnation, { kind: "plan", view: planned.view });
  }
}
