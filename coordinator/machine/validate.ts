import type { HeldOutCounts, WorkerMessage } from "../../shared/protocol/messages.ts";
import type { Incarnation, Tip } from "../../shared/protocol/view.ts";
import { isBetter } from "./best.ts";
import { startChange } from "./change.ts";
import { type MachineState, say, send, type Turn, type WorkerEntry } from "./state.ts";

/**
 * Validation while training goes on: of every state whose step is a multiple of the interval, members keep the weights
 * aside and say so; the coordinator gives them the fixed batches of held-out images one at a time, whatever the view, adds
 * their counts and makes the sum durable. No checkpoint of a later step is stored before that, so that a run that falls
 * back comes by that state again.
 */
export interface Validating {
  readonly tip: Tip;
  readonly since: number;
  readonly queue: number[];
  readonly given: Map<number, Incarnation>;
  /** When each batch was given. */
  readonly givenAt: Map<number, number>;
  /** Who is heard, has a batch and does not do it: a compute thread may hang while the rest of its worker looks sound. */
  readonly mute: Set<Incarnation>;
  readonly results: Map<number, HeldOutCounts>;
  /** Since when nobody is left that could hold that state, though training is past it; null while somebody does. */
  goneSince: number | null;
  /** The run went back to come by that state again. */
  wentBack: boolean;
}

/** What was found of one state; samples is 0 where it could not be validated. */
export interface Validation extends HeldOutCounts {
  readonly step: number;
  readonly lineage: string;
}

/**
 * The final step whose validation is not recorded yet; null where none is due. The last step has its evaluation instead,
 * unless the best state is looked for.
 */
export function pendingValidation({ settings, validated, ledger }: MachineState): number | null {
  if (settings.validation == null) return null;
  const { totalSteps } = settings;
  const { everySteps, patience } = settings.validation;
  const next = (Math.floor(validated / everySteps) + 1) * everySteps;
  const step = patience === null ? next : Math.min(next, totalSteps);
  const due = step < totalSteps || (patience !== null && validated < totalSteps);
  return due && step <= (ledger?.step ?? 0) ? step : null;
}

/** Gives batches of the validation that is due to whoever holds that state, and records the sum once all are there. */
export function validateIfDue(turn: Turn): void {
  const { state, now } = turn;
  const step = pendingValidation(state);
  if (step === null) return;
  const batches = state.settings.validation!.batches;
  const known = state.recent.get(step) ?? [...state.workers.values()].find(({ held }) => held?.step === step)?.held;
  const before = state.validating?.tip;
  if (before?.step !== step || (before.lineage === "" && known != null)) {
    const queue = Array.from({ length: batches }, (_, batch) => batch);
    const nothing = { given: new Map(), givenAt: new Map(), mute: new Set<Incarnation>(), results: new Map() };
    // Of a state that neither records nor workers know anybody may still come and tell.
    const tip = known ?? { step, lineage: "", stateHash: "" };
    state.validating = { tip, since: now, queue, ...nothing, goneSince: null, wentBack: false };
  }
  const validating = state.validating!;
  const { timing } = state.settings;
  for (const [batch, incarnation] of validating.given) {
    if (now - validating.givenAt.get(batch)! > timing.firstStepBudget) validating.mute.add(incarnation);
  }
  const holders = [...state.workers.values()].filter(
    (worker) => !worker.evicted && holds(worker, validating.tip) && !validating.mute.has(worker.incarnation),
  );
  for (const [batch, incarnation] of [...validating.given]) {
    if (holders.some((worker) => worker.incarnation === incarnation)) continue;
    validating.given.delete(batch);
    validating.queue.unshift(batch);
  }
  if (validating.results.size === batches) {
    if (isStored(turn, validating, holders)) conclude(turn, validating);
    return;
  }
  if (holders.length === 0) return giveUpIfGone(turn, validating);
  validating.goneSince = null;
  const busy = new Set(validating.given.values());
  for (const worker of holders) {
    if (!worker.connected || busy.has(worker.incarnation)) continue;
    const batch = nextOf(validating) ?? lateOf(validating, now - timing.answerTimeout);
    if (batch === undefined) return;
    validating.given.set(batch, worker.incarnation);
    validating.givenAt.set(batch, now);
    send(turn, worker.incarnation, { kind: "validate", step, batch });
  }
}

/**
 * Where the run may end at its best state that state is a checkpoint before it counts as the best one: it is pulled from
 * whoever holds it, and asked of the next one where that fails. Where nobody is left who could, it counts as missed.
 */
function isStored(turn: Turn, validating: Validating, holders: readonly WorkerEntry[]): boolean {
  const { state, now } = turn;
  const { tip, results } = validating;
  if (state.settings.validation?.patience == null || !isBetter(sumOf(results), state.best)) return true;
  if (state.checkpoint?.step === tip.step) return true;
  if (holders.length === 0) {
    giveUpIfGone(turn, validating);
    return false;
  }
  validating.goneSince = null;
  if (now < state.snapshotNotBefore || state.snapshot?.storing === true) {
    // Members that hold an update back meanwhile are not to blame for it: the pull is slow, or the disk is full.
    if (state.progressStep >= tip.step + state.settings.validation.everySteps) state.progressAt = now;
    return false;
  }
  if (state.snapshot?.tip?.step === tip.step) return false;
  // One of a later state would wait for this validation, and this one for it.
  if (state.snapshot?.tip != null) send(turn, state.snapshot.from, { kind: "discard", step: state.snapshot.tip.step });
  state.snapshot = null;
  const there = holders.filter((worker) => worker.connected);
  const holder = there[state.checkpointFailures % Math.max(1, there.length)];
  const bytes = holder?.heldBytes ?? 0;
  if (holder !== undefined)
    state.snapshot = { from: holder.incarnation, tip: holder.held, bytes, storing: false, since: now, kept: true };
  return false;
}

/** One that came back may have done a batch that was given to nobody else yet. */
function nextOf({ queue, results }: Validating): number | undefined {
  for (;;) {
    const batch = queue.shift();
    if (batch === undefined || !results.has(batch)) return batch;
  }
}

/** A batch that was given to somebody else before this time, who does not come back with it. */
const lateOf = ({ given, givenAt }: Validating, before: number): number | undefined =>
  [...given.keys()].find((batch) => givenAt.get(batch)! < before);

/** A hash that is not known yet contradicts nothing: the lineage holds those of all steps before. */
const holds = ({ held }: WorkerEntry, tip: Tip): boolean =>
  held !== null &&
  held.step === tip.step &&
  held.lineage === tip.lineage &&
  (tip.stateHash === "" || held.stateHash === tip.stateHash);

export function onHeld(turn: Turn, worker: WorkerEntry, tip: Tip, bytes: number): void {
  worker.held = tip;
  worker.heldBytes = bytes;
  // Steps that are done again after a fall-back pass by states that were validated before; and a worker that has outlived a
  // change of the interval keeps states of the former one, and would hold its next update back for ever.
  if (tip.step <= turn.state.validated || !isToBeValidated(turn.state, tip.step))
    send(turn, worker.incarnation, { kind: "validationDone", step: tip.step });
}

const isToBeValidated = ({ settings: { validation, totalSteps } }: MachineState, step: number): boolean =>
  validation != null && (step % validation.everySteps === 0 || (validation.patience !== null && step === totalSteps));

export function onValidated(turn: Turn, message: Extract<WorkerMessage, { kind: "validated" }>): void {
  const { validating } = turn.state;
  const { step, batch, samples, correct, loss } = message;
  if (validating?.tip.step !== step) return;
  validating.given.delete(batch);
  if (!validating.results.has(batch)) validating.results.set(batch, { samples, correct, loss });
  turn.state.progressAt = turn.now;
}

function conclude(turn: Turn, { tip, since, results }: Validating): void {
  record(turn, { step: tip.step, lineage: tip.lineage, ...sumOf(results) }, since);
}

function sumOf(results: Validating["results"]): HeldOutCounts {
  const sum = { samples: 0, correct: 0, loss: 0 };
  // In the order of the batches: sums of floating-point numbers depend on it.
  for (const [, counts] of [...results].sort(([a], [b]) => a - b)) {
    sum.samples += counts.samples;
    sum.correct += counts.correct;
    sum.loss += counts.loss;
  }
  return sum;
}

/**
 * Those that held the state are all lost, while somebody who came later has a newer one, or rests at it after the last step:
 * nobody will hold it again. Where all went back to a checkpoint, they will.
 */
function giveUpIfGone(turn: Turn, validating: Validating): void {
  const { state, now } = turn;
  const { tip, since } = validating;
  if (state.progressStep <= tip.step && !restAt(state, tip.step)) {
    validating.goneSince = null;
    return;
  }
  validating.goneSince ??= now;
  if (now - validating.goneSince < state.settings.timing.grace) return;
  if (goBack(turn, validating)) return;
  record(turn, { step: tip.step, lineage: tip.lineage, samples: 0, correct: 0, loss: 0 }, since);
}

/**
 * Which state a run ends at must not depend on who was lost: it goes back to its last checkpoint and comes by that state
 * again, once. False where it does not.
 */
function goBack(turn: Turn, validating: Validating): boolean {
  const { state } = turn;
  const { checkpoint, root, stopping, settings } = state;
  const base = checkpoint ?? (root === null ? null : { step: 0, lineage: root, stateHash: "" });
  if (settings.validation?.patience == null || stopping !== null || validating.wentBack || base === null) return false;
  validating.wentBack = true;
  validating.goneSince = null;
  validating.mute.clear();
  state.fallback = base;
  startChange(turn, `nobody keeps the state of step ${validating.tip.step}, which may be the best`);
  return true;
}

/** Do all members rest at this step? Whoever keeps its state has said so. */
const restAt = ({ installed, workers }: MachineState, step: number): boolean =>
  installed?.members.every(
    ({ entry, incarnation }) => entry === "joining" || workers.get(incarnation)?.idle?.tip.step === step,
  ) === true;

function record(turn: Turn, validation: Validation, since: number): void {
  const { state, now } = turn;
  const { step, samples, correct, loss } = validation;
  turn.actions.push({ kind: "recordValidation", validation });
  say(turn, {
    type: "validation",
    step,
    accuracy: samples === 0 ? null : correct / samples,
    loss: samples === 0 || !Number.isFinite(loss) ? null : loss / samples,
    samples,
    seconds: (now - since) / 1000,
  });
  if (isBetter(validation, state.best)) {
    state.best = { step, samples, correct };
    state.sinceBest = [];
  } else if (samples > 0 && state.settings.validation?.patience != null) state.sinceBest.push(step);
  state.validated = step;
  state.validating = null;
  state.progressAt = now;
  for (const worker of state.workers.values()) {
    if (worker.connected && !worker.evicted) send(turn, worker.incarnation, { kind: "validationDone", step });
  }
}
