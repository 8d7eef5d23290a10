/** When training gave way to evaluation, from the lines of events.ndjson; null where it never did. In milliseconds. */
export function evaluationStart(events: readonly Record<string, unknown>[]): number | null {
  const event = events.findLast((line) => line.type === "phase" && line.phase === "evaluating");
  const at = Date.parse(String(event?.time));
  return Number.isNaN(at) ? null : at;
}

export interface RunTimes {
  /** Start of `up` to the end of training. */
  readonly wallSeconds: number;
  /** From there to the end of the report; null without evaluation. */
  readonly evaluationSeconds: number | null;
}

/** All in milliseconds since 1970. `trained`: when the coordinator ended, `evaluating`: when evaluation began. */
export function runTimes(started: number, trained: number, evaluating: number | null, ended: number): RunTimes {
  const endOfTraining = evaluating ?? trained;
  return {
    wallSeconds: Math.max(0, endOfTraining - started) / 1000,
    evaluationSeconds: evaluating === null ? null : Math.max(0, ended - evaluating) / 1000,
  };
}
