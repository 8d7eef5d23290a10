/** How often a crashed process is started again. Times in milliseconds. */
export interface RestartPolicy {
  /** Restarts within one window before it is given up. */
  readonly most: number;
  readonly window: number;
  /** Pause before the first restart; it doubles with every further crash of a process that has not run for `settled`. */
  readonly firstPause: number;
  readonly longestPause: number;
  readonly settled: number;
}

export type RestartDecision =
  | { readonly kind: "restart"; readonly pause: number }
  | { readonly kind: "giveUp"; readonly restarts: number };

/** The coordinator is needed: workers keep stepping without it, but nothing is recorded. */
export const COORDINATOR_POLICY: RestartPolicy = {
  most: 8,
  window: 300_000,
  firstPause: 200,
  longestPause: 5000,
  settled: 10_000,
};

/** A worker that crashes again and again costs its peers a view each time, and the run can do without it. */
export const WORKER_POLICY: RestartPolicy = {
  most: 3,
  window: 600_000,
  firstPause: 1000,
  longestPause: 15_000,
  settled: 60_000,
};

/** NATS carries nothing that the run needs. */
export const NATS_POLICY: RestartPolicy = {
  most: 10,
  window: 600_000,
  firstPause: 1000,
  longestPause: 30_000,
  settled: 60_000,
};

/**
 * What to do about a crash at `now`. `restarts`: when the process was started again before, oldest first. A process that
 * has run well for a whole window starts with a clean record; one that has run for `settled` is at least not paused for long.
 */
export function afterCrash(policy: RestartPolicy, restarts: readonly number[], now: number): RestartDecision {
  const recent = restarts.filter((at) => now - at < policy.window).length;
  if (recent >= policy.most) return { kind: "giveUp", restarts: recent };
  return {
    kind: "restart",
    pause: Math.min(policy.longestPause, policy.firstPause * 2 ** inARow(policy, restarts, now)),
  };
}

/** Restarts, up to the crash at `now`, each of which followed the one before too soon for anything to have settled. */
function inARow({ settled }: RestartPolicy, restarts: readonly number[], now: number): number {
  const times = [...restarts, now];
  const calm = times.findLastIndex((time, i) => i > 0 && time - times[i - 1]! >= settled);
  return restarts.length - Math.max(0, calm);
}
