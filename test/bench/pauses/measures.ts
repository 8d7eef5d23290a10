import { durationOf, type EventMark, eventAfter, type History, medianOf, normalStep } from "./history.ts";

/** One try: what is reported of it, in milliseconds, and what it consists of. */
export interface Measured {
  readonly millis: number;
  readonly parts: Readonly<Record<string, number>>;
}

const isView = (event: EventMark) => event.type === "view" && typeof event.step === "number";
const reasonOf = (event: EventMark) => String(event.reason ?? "");

/** What the first step of a view took beyond a normal step of `like`. */
function excess(history: History, view: EventMark, like: string): number | null {
  const step = Number(view.step);
  const took = durationOf(history, step);
  const normal = normalStep(history, like, step);
  return took === null || normal === null ? null : took - normal;
}

/** The step within which a member was lost, done again in the view without it; from the files alone. */
export interface LossPause extends Measured {
  readonly parts: {
    /** From the fault to the coordinator's word that the member is lost. */
    readonly detection: number;
    /** From there to the new view. */
    readonly agreement: number;
    /** The rest: what was done of the step before the fault, and what it took longer the second time. */
    readonly recomputation: number;
  };
}

/**
 * The pause of a member's loss at `faultAt`: the gap between final steps around it minus the normal step of the view that
 * goes on. The member must not be the first of its view, who reports the final steps. Null where the history does not
 * show all of it.
 */
export function lossPause(history: History, faultAt: number, name: string): LossPause | null {
  const lost = eventAfter(history, faultAt, (e) => e.type === "worker" && e.change === "lost" && e.name === name);
  if (lost === undefined) return null;
  const view = eventAfter(history, lost.time, (e) => isView(e) && e.planned === false);
  if (view === undefined) return null;
  const millis = excess(history, view, String(view.id));
  if (millis === null) return null;
  const detection = lost.time - faultAt;
  const agreement = view.time - lost.time;
  return { millis, parts: { detection, agreement, recomputation: millis - detection - agreement } };
}

/** The pause of a planned leave that was asked for at `askedAt`: what the first step without the leaver took longer. */
export function leavePause(history: History, askedAt: number, name: string): Measured | null {
  const view = eventAfter(history, askedAt, (e) => isView(e) && reasonOf(e).includes(`leave: ${name}`));
  if (view === undefined) return null;
  const millis = excess(history, view, String(view.id));
  return millis === null ? null : { millis, parts: {} };
}

/**
 * The pause of a join, which consists of two changes of view with steps between them: what the step in which the joiner
 * gets level takes longer than those before it, and the first step in which it computes longer than those after it. The
 * pause is the longer one; `together`, what both cost the run.
 */
export function joinPause(history: History, startedAt: number, name: string): Measured | null {
  const views = joinViews(history, startedAt, name);
  if (views === null) return null;
  const before = history.events.filter((e) => isView(e) && e.time < views.join.time).at(-1);
  if (before === undefined) return null;
  const pull = excess(history, views.join, String(before.id));
  const handover = excess(history, views.level, String(views.level.id));
  if (pull === null || handover === null) return null;
  return { millis: Math.max(pull, handover), parts: { pull, handover, together: pull + handover } };
}

function joinViews(history: History, startedAt: number, name: string) {
  const join = eventAfter(history, startedAt, (e) => isView(e) && reasonOf(e).includes(`join: ${name}`));
  const level = eventAfter(history, startedAt, (e) => isView(e) && reasonOf(e).includes(`level: ${name}`));
  return join === undefined || level === undefined ? null : { join, level };
}

/** What a worker's own log says about its start. */
export interface StartLog {
  /** When it dialled the coordinator. */
  readonly dialledAt: number;
  readonly runtime: number;
  readonly data: number;
  readonly fingerprint: number;
}

/** From the start of the process to the first final step to which the worker `name` contributed. */
export function timeToContribution(
  history: History,
  startedAt: number,
  name: string,
  start: StartLog,
): Measured | null {
  const views = joinViews(history, startedAt, name);
  const ready = eventAfter(history, startedAt, (e) => e.type === "worker" && e.change === "ready" && e.name === name);
  if (views === null || ready === undefined) return null;
  const first = history.steps.find(({ by }) => by.includes(String(ready.worker)));
  if (first === undefined) return null;
  const node = start.dialledAt - startedAt;
  const { runtime, data, fingerprint } = start;
  const loading = ready.time - start.dialledAt;
  return {
    millis: first.time - startedAt,
    parts: {
      node,
      runtime,
      data,
      fingerprint,
      dialling: loading - runtime - data - fingerprint,
      plan: views.join.time - ready.time,
      pull: views.level.time - views.join.time,
      step: first.time - views.level.time,
    },
  };
}

/**
 * The checkpoints of a history: the pause is what the slowest step between request and storage took beyond a normal one,
 * `whole` what all of them did.
 */
export function checkpointPauses(history: History): Measured[] {
  const found: Measured[] = [];
  for (const [i, requested] of history.events.entries()) {
    if (requested.type !== "checkpoint" || requested.state !== "requested") continue;
    const stored = history.events.slice(i + 1).find((e) => e.type === "checkpoint");
    if (stored?.state !== "stored") continue;
    const slow = excesses(history, requested.time, stored.time);
    if (slow === null) continue;
    const whole = slow.reduce((sum, millis) => sum + millis, 0);
    found.push({ millis: Math.max(...slow), parts: { whole, stored: stored.time - requested.time } });
  }
  return found;
}

/** What each step that was under way between two times took beyond a normal one; null where a view changed meanwhile. */
function excesses(history: History, from: number, to: number): number[] | null {
  const under = history.steps.filter((mark, i) => mark.time > from && (history.steps[i - 1]?.time ?? from) < to);
  const views = new Set(under.map(({ view }) => view));
  if (under.length === 0 || views.size > 1) return null;
  const changes = history.events.some((e) => e.type === "view" && e.time > from - 1000 && e.time < to + 1000);
  if (changes) return null;
  const slow = under.map(({ step, view }) => {
    const took = durationOf(history, step + 1);
    const normal = normalStep(history, view, step);
    return took === null || normal === null ? null : took - normal;
  });
  return slow.some((millis) => millis === null) ? null : (slow as number[]);
}

/** When a step was first heard of from a member, whoever rules. */
export interface Heard {
  readonly step: number;
  readonly time: number;
}

/**
 * A coordinator that was killed: the pause is what the slowest step took beyond the median, as the members broadcast
 * them, until the next one ruled. `rules`: from the kill to there; `recorded`: to its first recorded step.
 */
export function takeOverPause(history: History, heard: readonly Heard[], killedAt: number): Measured | null {
  const before = history.events.filter((e) => e.time < killedAt).at(-1)?.term ?? 0;
  const rules = eventAfter(history, killedAt, (e) => e.term > before && e.type === "phase" && e.phase === "running");
  if (rules === undefined) return null;
  const recorded = history.steps.find(({ time }) => time > rules.time);
  const gaps = heard.slice(1).map((mark, i) => ({ ...mark, millis: mark.time - heard[i]!.time }));
  const under = gaps.filter(({ time, millis }) => time > killedAt && time - millis < rules.time);
  if (recorded === undefined || under.length === 0) return null;
  const normal = medianOf(gaps.map(({ millis }) => millis));
  const slowest = Math.max(...under.map(({ millis }) => millis));
  return {
    millis: slowest - normal,
    parts: { rules: rules.time - killedAt, recorded: recorded.time - killedAt, steps: under.length },
  };
}
