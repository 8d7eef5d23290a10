import { finish } from "./finish.ts";
import { type MachineState, type Outcome, say, type Turn, type WorkerEntry } from "./state.ts";

/**
 * A run that cannot go on says for whom it waits: at once, again whenever that changes, and at a bounded rate while it
 * does not (`sayAgain`). What waits for workers ends after `maxWait`, with a code and with the checkpoint kept.
 */
export interface Waiting {
  readonly detail: string;
  /** Since when the run has waited, whatever for. */
  readonly since: number;
  readonly saidAt: number;
}

const MOST_NAMES = 6;

/** Says it now if it was not said, or not of late. */
export function waitFor(turn: Turn, detail: string): void {
  const { state, now } = turn;
  const { waiting } = state;
  const since = waiting?.since ?? now;
  const again = waiting !== null && waiting.detail === detail;
  if (again && now - waiting.saidAt < state.settings.timing.sayAgain) return;
  state.waiting = { detail, since, saidAt: now };
  const text = again ? `${detail}, for ${Math.round((now - since) / 1000)} s now` : detail;
  say(turn, { type: "waiting", detail: text });
}

/** Waits for workers or for a state that only workers can bring, and gives up in the end. */
export function waitOrGiveUp(turn: Turn, detail: string, code: `LS_${string}` = "LS_TOO_FEW_WORKERS"): void {
  waitFor(turn, detail);
  const { settings, waiting } = turn.state;
  const { maxWait } = settings.timing;
  if (turn.now - waiting!.since <= maxWait) return;
  const waited = `The run waited ${Math.round(maxWait / 1000)} s (timing.maxWait) and gave up: ${detail}.`;
  finish(turn, { kind: "failed", code, message: `${waited} ${mendOf(turn.state)}` } satisfies Outcome);
}

const mendOf = ({ checkpoint }: MachineState) =>
  `${checkpoint === null ? "It has no checkpoint yet." : `The checkpoint of step ${checkpoint.step} is kept.`} Start workers and resume the run.`;

export function goOn(state: MachineState): void {
  state.waiting = null;
}

/** "1 of at least 3 workers is there: b is away, c still loads, d was lost". */
export function withMissing(state: MachineState, present: string): string {
  const here = new Set([...state.workers.values()].filter((w) => !w.evicted).map((w) => w.name));
  // Of the lives of one worker the last one tells.
  const lost = new Map(
    [...state.workers.values()]
      .filter((w) => w.evicted && w.leaving === null && !here.has(w.name))
      .map((w) => [w.name, w]),
  );
  const absent = [...state.workers.values()].filter((w) => !w.evicted && !(w.ready && w.connected));
  const sentences = [...absent.map(stateOf), ...[...lost.values()].map((w) => `${w.name} was lost`)];
  return sentences.length === 0 ? present : `${present}: ${shorten(sentences).join(", ")}`;
}

const stateOf = (worker: WorkerEntry) => (worker.connected ? `${worker.name} still loads` : `${worker.name} is away`);

/** Names of these workers, as many as a line bears. */
export const namesOf = (workers: readonly WorkerEntry[]): string => shorten(workers.map((w) => w.name)).join(", ");

const shorten = (texts: readonly string[]) =>
  texts.length <= MOST_NAMES ? texts : [...texts.slice(0, MOST_NAMES), `and ${texts.length - MOST_NAMES} more`];
