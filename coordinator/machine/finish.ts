import type { LedgerEntry } from "../../shared/protocol/trailer.ts";
import { type Incarnation, sameView, type Tip } from "../../shared/protocol/view.ts";
import { startChange } from "./change.ts";
import { releaseLeaver } from "./plan.ts";
import { guarded, type MachineState, nameOf, type Outcome, say, send, type Turn, type WorkerEntry } from "./state.ts";
import { pendingValidation } from "./validate.ts";
import { goOn, namesOf, waitFor } from "./waiting.ts";

/** Ledger, checkpoints, evaluation and the end of a run. */

const RECENT = 4096;
const MAX_CHECKPOINT_FAILURES = 10;
/** Pause after a checkpoint that failed, in milliseconds; it doubles with each further one. */
const FIRST_CHECKPOINT_PAUSE = 250;
const LONGEST_CHECKPOINT_PAUSE = 60_000;

/**
 * Takes final steps in order. Steps done again after a fall-back are repeats and are dropped: the line is the same. Only
 * if one contradicts what was recorded, the recorded line is given up from there on, since its state did not survive.
 */
export function ingest(turn: Turn, entries: readonly LedgerEntry[]): void {
  const { state } = turn;
  // The line may have been cut back to where the run ended.
  if (state.phase === "finished") return;
  const accepted: LedgerEntry[] = [];
  for (const entry of entries) {
    const at = state.ledger?.step ?? 0;
    const known = state.recent.get(entry.step + 1);
    if (entry.step < at && known !== undefined && known.lineage !== entry.lineage) {
      const parent = state.recent.get(entry.step) ?? { step: entry.step, lineage: "", stateHash: "" };
      turn.actions.push({ kind: "recordTruncate", tip: parent });
      state.skipped = 0;
      state.validated = Math.min(state.validated, entry.step);
      if (state.best !== null && state.best.step > entry.step) state.best = null;
      state.sinceBest = state.sinceBest.filter((step) => step <= entry.step);
      state.validating = null;
      for (const step of [...state.recent.keys()]) if (step > entry.step) state.recent.delete(step);
    } else if (entry.step !== at) continue;
    accepted.push(entry);
    for (const by of new Set(entry.shards.map((shard) => shard.by))) {
      const worker = state.workers.get(by);
      if (worker !== undefined) worker.heldUp = 0;
    }
    state.ledger = { step: entry.step + 1, lineage: entry.lineage, stateHash: entry.stateHash };
    state.skipped = entry.applied ? 0 : state.skipped + 1;
    state.recent.set(entry.step + 1, state.ledger);
    state.recent.delete(entry.step + 1 - RECENT);
  }
  if (accepted.length === 0) {
    const [first] = entries;
    if (first !== undefined && first.step > (state.ledger?.step ?? 0))
      state.gap ??= { since: turn.now, step: first.step };
    return;
  }
  state.gap = null;
  turn.actions.push({ kind: "recordFinal", entries: accepted });
  state.progressAt = turn.now;
  if (state.change === null && state.installed !== null && lastLeavers(state).length === 0) goOn(state);
}

// ---- checkpoints

/** Asks for a snapshot when one is due, and stores it once its step is final and its hash is the recorded one. */
export function checkpointIfDue(turn: Turn): void {
  const { state, now } = turn;
  const { installed, snapshot } = state;
  if (installed === null || state.change !== null) return;
  if (snapshot !== null) {
    const worker = state.workers.get(snapshot.from);
    const late = !snapshot.storing && now - snapshot.since > state.settings.timing.checkpointTimeout;
    if (worker === undefined || worker.evicted) state.snapshot = null;
    else if (late) {
      onCheckpoint(turn, snapshot.tip ?? { step: 0, lineage: "", stateHash: "" }, "no snapshot came in time");
      if (state.phase === "finished") return;
    } else if (snapshot.tip !== null && !snapshot.storing) storeIfGood(turn, snapshot.tip);
  }
  const leaving = lastLeavers(state);
  if (leaving.length > 0 && state.phase === "running") waitForLeavers(turn, leaving);
  if (state.snapshot !== null || turn.state.change !== null) return;
  const step = state.ledger?.step ?? 0;
  const last = state.checkpoint?.step ?? 0;
  const due = step - last >= state.settings.checkpointEverySteps && state.skipped === 0;
  if ((due || leaving.length > 0) && isValidated(state, step)) requestSnapshot(turn);
}

/**
 * A state that no step has changed since the last applied one holds nothing new: it is not stored, so that checkpoints from
 * before steps that are not finite are there to go back to, however few are kept. The last worker's state always is, and one
 * that is to count as the best: its validation would wait for it for ever.
 */
function storeIfGood(turn: Turn, tip: Tip): void {
  const { state } = turn;
  const applied = (state.ledger?.step ?? 0) - state.skipped;
  const wanted = state.snapshot!.kept === true || lastLeavers(state).length > 0;
  if (state.skipped === 0 || tip.step <= applied || wanted) return storeIfFinal(turn);
  send(turn, state.snapshot!.from, { kind: "discard", step: tip.step });
  state.snapshot = null;
}

/** A checkpoint behind a state that is still to be validated would keep a run that falls back from coming by it again. */
function isValidated(state: MachineState, step: number): boolean {
  const pending = pendingValidation(state);
  return pending === null || step <= pending;
}

function requestSnapshot(turn: Turn): void {
  const { state, now } = turn;
  if (now < state.snapshotNotBefore) return;
  const members = (state.installed?.members ?? []).filter(
    (m) => m.entry !== "joining" && state.workers.get(m.incarnation)?.connected === true,
  );
  // Where one could not hand over a snapshot the next one is asked.
  const member = members[state.checkpointFailures % Math.max(1, members.length)];
  if (member === undefined) return;
  state.snapshot = { from: member.incarnation, tip: null, bytes: 0, storing: false, since: now };
  send(turn, member.incarnation, { kind: "snapshot" });
  say(turn, { type: "checkpoint", step: state.ledger?.step ?? 0, state: "requested", detail: "" });
}

export function onSnapshot(turn: Turn, from: Incarnation, tip: Tip, bytes: number): void {
  const { snapshot } = turn.state;
  if (snapshot === null || snapshot.from !== from || snapshot.tip !== null) return;
  snapshot.tip = tip;
  snapshot.bytes = bytes;
}

function storeIfFinal(turn: Turn): void {
  const { state } = turn;
  const snapshot = state.snapshot!;
  const tip = snapshot.tip!;
  if ((state.ledger?.step ?? 0) < tip.step && guarded(turn, "checkpoint-is-final")) return;
  const known = state.recent.get(tip.step);
  const final = known !== undefined && known.lineage === tip.lineage && known.stateHash === tip.stateHash;
  if (!final && guarded(turn, "checkpoint-is-final")) {
    say(turn, {
      type: "checkpoint",
      step: tip.step,
      state: "failed",
      detail: "the snapshot is not the recorded state",
    });
    send(turn, snapshot.from, { kind: "discard", step: tip.step });
    state.snapshot = null;
    return;
  }
  if (!isValidated(state, tip.step)) return;
  snapshot.storing = true;
  turn.actions.push({ kind: "storeCheckpoint", from: snapshot.from, tip, bytes: snapshot.bytes });
}

export function onCheckpoint(turn: Turn, tip: Tip, failure: string | null): void {
  const { state } = turn;
  const requestedAt = state.snapshot?.kept === true ? Number.NEGATIVE_INFINITY : (state.snapshot?.since ?? 0);
  if (state.snapshot !== null) send(turn, state.snapshot.from, { kind: "discard", step: tip.step });
  state.snapshot = null;
  state.checkpointFailures = failure === null ? 0 : state.checkpointFailures + 1;
  const pause = Math.min(LONGEST_CHECKPOINT_PAUSE, FIRST_CHECKPOINT_PAUSE * 2 ** (state.checkpointFailures - 1));
  state.snapshotNotBefore = failure === null ? turn.now : turn.now + pause;
  if (failure === null) state.checkpoint = tip;
  say(turn, {
    type: "checkpoint",
    step: tip.step,
    state: failure === null ? "stored" : "failed",
    detail: failure ?? "",
  });
  if (failure !== null && state.phase === "finishing" && state.checkpointFailures >= MAX_CHECKPOINT_FAILURES) {
    finish(turn, {
      kind: "failed",
      code: "LS_CHECKPOINT_FAILED",
      message: `The last checkpoint could not be stored: ${failure}.`,
    });
    return;
  }
  // A run that rests ends by itself; a state from before they asked to leave would lose what came after.
  const leavers = failure === null && state.phase === "running" ? lastLeavers(state) : [];
  if (leavers.length === 0 || leavers.some((worker) => worker.leavingAt > requestedAt)) return;
  for (const worker of leavers) releaseLeaver(turn, worker);
  startChange(turn, "the last worker left");
}

/** The last worker stays until its state is a checkpoint, but not for ever: a full disk must not hold it. */
function waitForLeavers(turn: Turn, leaving: readonly WorkerEntry[]): void {
  const { state, now } = turn;
  const { leaveTimeout } = state.settings.timing;
  const since = Math.max(...leaving.map((worker) => worker.leavingAt));
  waitFor(turn, `${namesOf(leaving)} will leave once its state is a checkpoint`);
  if (now - since <= leaveTimeout) return;
  say(turn, {
    type: "checkpoint",
    step: state.ledger?.step ?? 0,
    state: "failed",
    detail: `${namesOf(leaving)} left without it after ${Math.round(leaveTimeout / 1000)} s`,
  });
  for (const worker of leaving) releaseLeaver(turn, worker);
  startChange(turn, "the last worker left");
}

/** Members that want to leave while nobody would stay: they wait for a checkpoint. */
function lastLeavers(state: MachineState): WorkerEntry[] {
  const workers = (state.installed?.members ?? []).map((m) => state.workers.get(m.incarnation)!);
  return workers.length > 0 && workers.every((w) => w.leaving !== null) ? workers : [];
}

// ---- the end

/** When all members rest with equal states: last ledger entry, last checkpoint, evaluation, release. */
export function finishIfDue(turn: Turn): void {
  const { state } = turn;
  const { installed } = state;
  if (installed === null || state.change !== null || state.phase === "finished") return;
  if (state.phase === "evaluating") return evaluate(turn);
  const members = restingMembers(turn);
  const resting = members.map((w) => w.idle).filter((s) => s !== null && sameView(s.view, installed.id));
  if (resting.length !== members.length || resting.length === 0) return;
  const tip = resting[0]!.tip;
  for (const standing of resting) {
    const entries = standing!.entries.map((e) => (e.step + 1 === tip.step ? { ...e, stateHash: tip.stateHash } : e));
    ingest(turn, entries);
  }
  if (state.phase === "running") {
    state.phase = "finishing";
    say(turn, { type: "phase", phase: "finishing", detail: `all members rest at step ${tip.step}` });
  }
  const recorded = state.ledger?.step ?? 0;
  if (recorded < tip.step) return;
  // All that had come further were lost after the run was to stop: those steps are done again when it is resumed.
  const stored = state.checkpoint?.step === tip.step;
  if (recorded > tip.step && (stored || !state.recent.has(tip.step))) return finishStopped(turn);
  if (recorded === tip.step) state.recent.set(tip.step, tip);
  const pending = pendingValidation(state);
  if (pending !== null && (pending < tip.step || tip.step === state.settings.totalSteps)) {
    if (state.validating !== null && turn.now - state.validating.since > state.settings.timing.sayAgain)
      waitFor(turn, `the state of step ${pending} is still being validated`);
    return;
  }
  if (!stored) {
    if (state.snapshot === null) return requestSnapshot(turn);
    if (turn.now - state.snapshot.since > state.settings.timing.sayAgain) {
      waitFor(turn, `${nameOf(state, state.snapshot.from)} must hand over the last checkpoint`);
    }
    if (state.snapshot.tip !== null && !state.snapshot.storing) storeIfFinal(turn);
    return;
  }
  if (tip.step < state.settings.totalSteps) return finishStopped(turn);
  if (state.settings.evaluationBatches === 0) return finish(turn, { kind: "done" });
  state.phase = "evaluating";
  const queue = Array.from({ length: state.settings.evaluationBatches }, (_, batch) => batch);
  state.evaluation = { queue, given: new Map(), done: new Set() };
  state.progressAt = turn.now;
  say(turn, { type: "phase", phase: "evaluating", detail: `${queue.length} batches of images` });
  evaluate(turn);
}

const finishStopped = (turn: Turn): void => finish(turn, { kind: "stopped", reason: turn.state.stopping ?? "stopped" });

/**
 * A run that is to stop does not wait for workers that have left by themselves: what they knew is the checkpoint for which they
 * stayed. Nor for any where nothing is beyond the checkpoint. Those that were lost may still bring steps.
 * @returns whether it has ended
 */
export function stopIfDeserted(turn: Turn): boolean {
  const { state } = turn;
  if (state.stopping === null || [...state.workers.values()].some((worker) => !worker.evicted)) return false;
  const kept = (state.checkpoint?.step ?? 0) === (state.ledger?.step ?? 0);
  if (!kept && lastLeavers(state).length === 0) return false;
  finishStopped(turn);
  return true;
}

/**
 * Members that can come to rest. A joiner that was not level when the steps ended never will; one that was is a witness
 * of the last update, so that it is waited for as long as a worker may be silent.
 */
function restingMembers({ state, now }: Turn): WorkerEntry[] {
  const installed = state.installed!;
  const rests = (worker: WorkerEntry) => sameView(worker.idle?.view ?? null, installed.id);
  const entries = installed.members.map((m) => ({ entry: m.entry, worker: state.workers.get(m.incarnation)! }));
  if (!entries.every(({ entry, worker }) => entry === "joining" || rests(worker))) state.restingSince = null;
  else state.restingSince ??= now;
  const late = state.restingSince !== null && now - state.restingSince > state.settings.timing.heartbeatTimeout;
  return entries.filter(({ entry, worker }) => entry !== "joining" || rests(worker) || !late).map((e) => e.worker);
}

/** True where the states of resting members differ, which only a change can mend. */
export function restingDiffer(turn: Turn): boolean {
  const { state } = turn;
  const { installed } = state;
  if (installed === null || state.change !== null || (state.phase !== "running" && state.phase !== "finishing"))
    return false;
  const members = restingMembers(turn);
  const tips = members.map((w) => w.idle).filter((s) => s !== null && sameView(s.view, installed.id));
  if (tips.length !== members.length || tips.length === 0) return false;
  return tips.some(
    (s) => !s!.whole || s!.tip.lineage !== tips[0]!.tip.lineage || s!.tip.stateHash !== tips[0]!.tip.stateHash,
  );
}

/** Keeps up to two batches at each worker; batches of lost workers go back into the queue. */
function evaluate(turn: Turn): void {
  const { state } = turn;
  const evaluation = state.evaluation!;
  for (const [batch, incarnation] of [...evaluation.given]) {
    const worker = state.workers.get(incarnation);
    if (worker === undefined || worker.evicted) {
      evaluation.given.delete(batch);
      evaluation.queue.unshift(batch);
    }
  }
  const helpers = (state.installed?.members ?? [])
    .map((m) => state.workers.get(m.incarnation)!)
    .filter((w) => w.connected && !w.evicted);
  for (const worker of helpers) {
    const busy = [...evaluation.given.values()].filter((i) => i === worker.incarnation).length;
    const batches = evaluation.queue.splice(0, Math.max(0, 2 - busy));
    for (const batch of batches) evaluation.given.set(batch, worker.incarnation);
    if (batches.length > 0) send(turn, worker.incarnation, { kind: "evaluate", batches });
  }
  if (evaluation.done.size === state.settings.evaluationBatches) finish(turn, { kind: "done" });
}

export function onEvaluated(turn: Turn, batch: number): void {
  const { evaluation } = turn.state;
  if (evaluation === null) return;
  evaluation.given.delete(batch);
  evaluation.done.add(batch);
  turn.state.progressAt = turn.now;
}

export function finish(turn: Turn, outcome: Outcome): void {
  const { state } = turn;
  state.phase = "finished";
  state.outcome = outcome;
  // The end is recorded first: workers that were let go would not come back to a coordinator that does not know of it.
  turn.actions.push({ kind: "finish", outcome });
  for (const worker of state.workers.values()) {
    if (worker.connected && !worker.evicted) send(turn, worker.incarnation, { kind: "release", reason: outcome.kind });
  }
}
