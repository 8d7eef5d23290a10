/** How a process ended, as Node reports it. */
export interface ProcessEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/**
 * - `finished`: it did its work
 * - `refused`: it said why it cannot work here (wrong usage, environment); starting it again changes nothing
 * - `crashed`: starting it again may help
 */
export type EndMeaning = "finished" | "refused" | "crashed";

/** Exit codes 2 and 3 stand for wrong usage and for an environment that lacks something. */
export function meaningOf({ code }: ProcessEnd): EndMeaning {
  if (code === 0) return "finished";
  return code === 2 || code === 3 ? "refused" : "crashed";
}

export const describeEnd = ({ code, signal }: ProcessEnd): string =>
  signal === null ? `exit code ${code ?? "unknown"}` : `signal ${signal}`;
