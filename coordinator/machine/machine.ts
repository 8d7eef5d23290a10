import type { Progress, WorkerMessage } from "../../shared/protocol/messages.ts";
import { type Incarnation, sameView, type View, type ViewId } from "../../shared/protocol/view.ts";
import { measure } from "./balance.ts";
import { endAtBest } from "./best.ts";
import {
  includeInChange,
  lateAnswers,
  membersOf,
  onAnswer,
  onRestored,
  repeatTo,
  startChange,
  tryInstall,
} from "./change.ts";
import {
  checkpointIfDue,
  finish,
  finishIfDue,
  ingest,
  onCheckpoint,
  onEvaluated,
  onSnapshot,
  restingDiffer,
  stopIfDeserted,
} from "./finish.ts";
import { endIfBehind } from "./gap.ts";
import { endIfNotFinite } from "./not-finite.ts";
import { adoptInherited, onSwitched, planIfDue, releaseLeaver, sayMissing, settlePlan } from "./plan.ts";
import {
  guarded,
  type MachineAction,
  type MachineEvent,
  type MachineState,
  nameOf,
  nextId,
  say,
  send,
  type Turn,
  type WorkerEntry,
} from "./state.ts";
import { mostAccused, stepBudget } from "./suspect.ts";
import { onHeld, onValidated, validateIfDue } from "./validate.ts";
import { waitFor, waitOrGiveUp, withMissing } from "./waiting.ts";

/**
 * The coordinator's membership decisions as a deterministic machine: one event at a time, `state` moves on in place, the
 * actions are to be performed in order (records are durable before what follows them). No I/O and no clock of its own.
 *
 * @param now milliseconds on a monotonic clock
 */
export function step(state: MachineState, event: MachineEvent, now: number): MachineAction[] {
  const turn: Turn = { state, now, actions: [] };
  handle(turn, event);
  if (state.phase !== "finished") decide(turn);
  return turn.actions;
}

function handle(turn: Turn, event: MachineEvent): void {
  const { state, now } = turn;
  switch (event.kind) {
    case "hello":
      return onHello(turn, event.hello);
    case "message": {
      const worker = state.workers.get(event.from);
      if (worker === undefined || worker.evicted) return;
      worker.lastHeard = now;
      return onMessage(turn, worker, event.message);
    }
    case "disconnected": {
      const worker = state.workers.get(event.incarnation);
      if (worker === undefined || !worker.connected) return;
      worker.connected = false;
      worker.disconnectedAt = now;
      if (!worker.evicted && state.phase !== "finished") {
        turn.actions.push({ kind: "probe", incarnation: worker.incarnation, address: worker.address });
      }
      return;
    }
    case "refused": {
      const worker = state.workers.get(event.incarnation);
      if (worker !== undefined && !worker.connected) evict(turn, worker, "its process is gone");
      return;
    }
    case "tick":
      return onTick(turn);
    case "checkpointStored":
      return onCheckpoint(turn, event.tip, null);
    case "checkpointFailed":
      return onCheckpoint(turn, event.tip, event.reason);
    case "checkpointLost":
      if (state.checkpoint?.step === event.tip.step) state.checkpoint = event.next;
      if (state.change?.restoring?.tip.step === event.tip.step) startChange(turn, "a checkpoint is not usable");
      return;
    case "stop":
      state.stopping ??= event.reason;
      if (state.installed === null && state.change === null) {
        finish(turn, { kind: "stopped", reason: event.reason });
      }
      return;
    default:
      return event satisfies never;
  }
}

/** What the state calls for, after every event. */
function decide(turn: Turn): void {
  const { state } = turn;
  if (endIfNotFinite(turn) || endIfBehind(turn) || endAtBest(turn)) return;
  if (state.change !== null) {
    if (!stopIfDeserted(turn)) tryInstall(turn);
    return;
  }
  if (state.installed === null) return formIfDue(turn);
  if (restingDiffer(turn)) return startChange(turn, "states differ at rest");
  planIfDue(turn);
  validateIfDue(turn);
  if (endAtBest(turn)) return;
  checkpointIfDue(turn);
  finishIfDue(turn);
}

function formIfDue(turn: Turn): void {
  const { state, now } = turn;
  if (state.inherited.length > 0) {
    if (adoptInherited(turn)) return;
    if (now < state.graceUntil) return waitFor(turn, withMissing(state, "members of the last view may come back"));
  }
  const ready = [...state.workers.values()].filter((w) => w.ready && w.connected && !w.evicted);
  if (ready.length === 0) return waitOrGiveUp(turn, withMissing(state, "no worker is ready yet"));
  state.firstReadyAt ??= now;
  const patience = state.inherited.length > 0 ? 0 : state.settings.timing.firstStepBudget;
  const all = ready.length >= state.settings.workers;
  if (!all && (now - state.firstReadyAt < patience || ready.length < state.settings.minWorkers)) {
    const present = `${ready.length} of ${state.settings.workers} workers ${ready.length === 1 ? "is" : "are"} ready`;
    return waitOrGiveUp(turn, withMissing(state, present));
  }
  sayMissing(turn);
  startChange(turn, state.inherited.length > 0 ? "take-over" : "start");
}

// ---- workers

function onHello(turn: Turn, hello: Extract<WorkerMessage, { kind: "hello" }>): void {
  const { state, now } = turn;
  const known = state.workers.get(hello.incarnation);
  const worker: WorkerEntry = {
    incarnation: hello.incarnation,
    name: hello.name,
    host: hello.host,
    address: hello.address,
    httpAddress: hello.httpAddress,
    pid: hello.pid,
    joinedAt: known?.joinedAt ?? now,
    connected: true,
    disconnectedAt: 0,
    lastHeard: now,
    ready: hello.standing !== null,
    free: false,
    standby: known?.standby ?? false,
    promised: hello.promised,
    standing: hello.standing,
    progress: known?.progress ?? null,
    speed: known?.speed ?? null,
    idle: null,
    ...{ held: null, heldBytes: 0 },
    leaving: known?.leaving ?? null,
    leavingAt: known?.leavingAt ?? 0,
    evicted: false,
    evictions: known?.evictions ?? 0,
    heldUp: known?.heldUp ?? 0,
    notBefore: known?.notBefore ?? 0,
  };
  state.workers.set(hello.incarnation, worker);
  const { outcome } = state;
  if (outcome !== null) return send(turn, worker.incarnation, { kind: "release", reason: outcome.kind });
  if (known === undefined) {
    say(turn, { type: "worker", change: "connected", worker: worker.incarnation, name: worker.name, why: "" });
  }
  if (!worker.ready) return;
  // The news of a switch may have been lost with the stream.
  const { planned } = state;
  if (planned !== null && hello.standing !== null && sameView(hello.standing.view, planned.view.id)) {
    onSwitched(turn, worker.incarnation, planned.view.id, hello.standing.tip.step);
  }
  if (state.change !== null || membersOf(state).has(worker.incarnation)) return repeatTo(turn, worker);
  // It was in a view that went on without it: it promises first, so that its old view can never commit again.
  send(turn, worker.incarnation, { kind: "prepare", id: nextId(turn) });
}

function onMessage(turn: Turn, worker: WorkerEntry, message: WorkerMessage): void {
  const { state } = turn;
  switch (message.kind) {
    case "hello":
    case "dialled":
      return;
    case "ready":
      return onReady(turn, worker, message);
    case "heartbeat":
      worker.progress = message.progress;
      measure(turn, worker);
      if (message.progress.step > state.progressStep) {
        state.progressStep = message.progress.step;
        state.progressAt = turn.now;
      }
      return;
    case "answer":
      if (state.change !== null && sameView(state.change.id, message.id))
        return onAnswer(turn, worker, message.standing);
      worker.standing = message.standing;
      if (!membersOf(state).has(worker.incarnation)) worker.free = true;
      return;
    case "refuse":
      return onRefuse(turn, message.id, message.promised);
    case "switched":
      worker.standing = worker.standing === null ? null : { ...worker.standing, view: message.id };
      return onSwitched(turn, worker.incarnation, message.id, message.step);
    case "final":
      return ingest(turn, message.entries);
    case "mismatch":
      if (state.change !== null || !sameView(state.installed?.id ?? null, message.view)) return;
      say(turn, {
        type: "mismatch",
        step: message.step,
        detail:
          message.corruptFrom === null
            ? message.states
                .map((s) => `${nameOf(state, s.incarnation)} ${s.lineage.slice(0, 8)}/${s.stateHash}`)
                .join(", ")
            : `data of ${nameOf(state, message.corruptFrom)} failed its checksum`,
      });
      return startChange(turn, `mismatch at step ${message.step}`);
    case "lost": {
      const peer = state.workers.get(message.peer);
      if (peer !== undefined && !peer.connected && message.refused)
        evict(turn, peer, `${worker.name} was refused by it`);
      return;
    }
    case "idle":
      worker.idle = message.standing;
      worker.standing = message.standing;
      return;
    case "restored":
      return onRestored(turn, worker, message.standing);
    case "snapshot":
      return onSnapshot(turn, worker.incarnation, message.tip, message.bytes);
    case "evaluated":
      return onEvaluated(turn, message.batch);
    case "held":
      return onHeld(turn, worker, message.tip, message.bytes);
    case "validated":
      return onValidated(turn, message);
    case "leaving":
      if (worker.leaving === null) worker.leavingAt = turn.now;
      worker.leaving = message.reason;
      if (!membersOf(state).has(worker.incarnation)) releaseLeaver(turn, worker);
      return;
    case "failed":
      return evict(turn, worker, `${message.message} [${message.code}]`);
    default:
      return message satisfies never;
  }
}

function onReady(turn: Turn, worker: WorkerEntry, message: Extract<WorkerMessage, { kind: "ready" }>): void {
  const { state } = turn;
  const same = state.fingerprint === null || state.fingerprint.join() === message.fingerprint.join();
  if (!same || (state.root !== null && state.root !== message.root)) {
    const text = same
      ? `Its initial state is ${message.root.slice(0, 16)}, the run's ${state.root?.slice(0, 16)}.`
      : `Its fingerprint is ${message.fingerprint.join(" ")}, the run's ${state.fingerprint?.join(" ")}.`;
    send(turn, worker.incarnation, { kind: "rejected", code: "LS_FINGERPRINT", message: text });
    worker.evicted = true;
    return say(turn, { type: "worker", change: "refused", worker: worker.incarnation, name: worker.name, why: text });
  }
  if (state.fingerprint === null || state.root === null) {
    state.fingerprint = message.fingerprint;
    state.root = message.root;
    turn.actions.push({ kind: "recordFirst", fingerprint: message.fingerprint, root: message.root });
  }
  // Said again after a redial: this coordinator may not know what the one before it has heard.
  if (worker.ready) return;
  worker.ready = true;
  worker.free = true;
  worker.standing = message.standing;
  say(turn, { type: "worker", change: "ready", worker: worker.incarnation, name: worker.name, why: "" });
  if (state.change !== null) includeInChange(turn, worker);
}

function onRefuse(turn: Turn, id: ViewId, promised: ViewId): void {
  const { state } = turn;
  if (promised.term > state.settings.term) {
    return finish(turn, {
      kind: "failed",
      code: "LS_SUPERSEDED",
      message: `A coordinator of term ${promised.term} rules this run; this one (term ${state.settings.term}) stops.`,
    });
  }
  state.number = Math.max(state.number, promised.number);
  if (state.change !== null && sameView(state.change.id, id)) startChange(turn, state.change.reason);
}

/** @param quarantine least time until it may be in a view again, in milliseconds; it grows with every eviction */
export function evict(turn: Turn, worker: WorkerEntry, why: string, quarantine = 0): void {
  const { state, now } = turn;
  if (worker.evicted) return;
  worker.evicted = true;
  worker.evictions += 1;
  const { quarantineFirst, quarantineMax } = state.settings.timing;
  const grown = Math.min(quarantineMax, quarantineFirst * 2 ** (worker.evictions - 1));
  worker.notBefore = now + Math.max(quarantine, grown);
  turn.actions.push({ kind: "close", incarnation: worker.incarnation, reason: why });
  const member = membersOf(state).has(worker.incarnation);
  // Only the loss of a member is a failure that the run survives.
  say(turn, { type: "worker", change: member ? "lost" : "left", worker: worker.incarnation, name: worker.name, why });
  if (!worker.ready || !member) return;
  if (state.installed !== null && state.change === null) startChange(turn, `${worker.name} lost: ${why}`);
}

// ---- time

function onTick(turn: Turn): void {
  const { state, now } = turn;
  const { timing } = state.settings;
  const pause = now - state.lastTick;
  state.lastTick = now;
  const live = [...state.workers.values()].filter((w) => !w.evicted);
  // A worker that still loads sends no heartbeats; it may take as long as a first step.
  const patience = (worker: WorkerEntry) => (worker.ready ? timing.heartbeatTimeout : timing.firstStepBudget);
  const silent = live.filter((w) => now - w.lastHeard > patience(w));
  // A jump of our own clock, or silence of everybody, says more about us than about them.
  if (pause > timing.heartbeatTimeout / 2) {
    state.graceUntil = Math.max(state.graceUntil, now + timing.heartbeatTimeout);
    for (const worker of live) worker.lastHeard = Math.max(worker.lastHeard, now - timing.heartbeatTimeout / 2);
  } else if (now >= state.graceUntil) {
    const everybody = silent.length === live.length;
    for (const worker of silent) {
      const limit = everybody ? Math.max(timing.grace, patience(worker)) : patience(worker);
      if (now - worker.lastHeard > limit && guarded(turn, "silence-evicts"))
        evict(turn, worker, `silent for ${Math.round(now - worker.lastHeard)} ms`);
    }
  }
  if (now >= state.graceUntil && guarded(turn, "late-answers-evict")) {
    for (const worker of lateAnswers(turn)) {
      worker.heldUp += 1;
      evict(turn, worker, "it is heard and does not answer");
    }
  }
  settlePlan(turn);
  checkProgress(turn);
}

function checkProgress(turn: Turn): void {
  const { state, now } = turn;
  const { installed } = state;
  if (installed === null || state.change !== null || now < state.graceUntil) return;
  if (state.phase !== "running") return checkRest(turn);
  const members = installed.members.map((m) => state.workers.get(m.incarnation)!);
  if (members.every((w) => w.idle !== null)) return;
  const progress = new Map(members.filter((w) => w.progress !== null).map((w) => [w.incarnation, w.progress!]));
  const budget = stepBudget(installed, progress, state.settings.timing);
  const overdue = now - state.progressAt;
  if (overdue > state.settings.timing.sayAgain) sayOverdue(turn, installed, progress);
  if (overdue <= budget) return;
  if (!guarded(turn, "no-progress-evicts")) return;
  const accused = mostAccused(installed, progress);
  const worker = accused === null ? undefined : state.workers.get(accused);
  // Nobody owes anything: all are asked where they stand, and whoever does not answer goes.
  if (worker === undefined) return startChange(turn, "no step and nobody to blame for it");
  worker.heldUp += 1;
  // One whose compute thread is stuck looks sound until it is given work: it gets the time to find out itself and to end.
  const why = `no step for ${Math.round((now - state.progressAt) / 1000)} s and the others wait for it`;
  evict(turn, worker, why, 2 * budget);
}

/** At the end of a run the others wait for whoever was asked for the last snapshot, or evaluates. */
function checkRest(turn: Turn): void {
  const { state, now } = turn;
  const { snapshot, progressAt } = state;
  const { firstStepBudget } = state.settings.timing;
  const predicting = state.evaluation ?? state.validating;
  const asked =
    predicting === null ? (snapshot?.storing === false ? snapshot.from : undefined) : firstOf(predicting.given);
  const since = predicting === null ? (snapshot?.since ?? now) : progressAt;
  const worker = asked === undefined ? undefined : state.workers.get(asked);
  if (worker === undefined || worker.evicted || now - since <= firstStepBudget || !guarded(turn, "no-progress-evicts"))
    return;
  const what = predicting === null ? "snapshot" : "prediction";
  evict(turn, worker, `no ${what} for ${Math.round((now - since) / 1000)} s`, firstStepBudget);
}

const firstOf = (given: ReadonlyMap<number, Incarnation>): Incarnation | undefined => given.values().next().value;

function sayOverdue(turn: Turn, installed: View, progress: ReadonlyMap<Incarnation, Progress>): void {
  const { state } = turn;
  const accused = mostAccused(installed, progress);
  const whom = accused === null ? "its members" : nameOf(state, accused);
  waitFor(turn, `step ${Math.max(0, state.progressStep)} is not done yet: ${whom} must go on`);
}
