/** How often a crashed process is started again. Times in milliseconds. */
export interface RestartPolicy {
  /** Restarts within one window before it is given up. */
  readonly most: number;
  readonly window: number;
  /** Pause before the first restart; it doubles with every further one inside the window. */
  readonly firstPause: number;
  readonly longestPause: number;
}

export type RestartDecision =
  | { readonly kind: "restart"; readonly pause: number }
  | { readonly kind: "giveUp"; readonly restarts: number };

/** The coordinator is needed: workers keep stepping without it, but nothing is recorded. */
export const COORDINATOR_POLICY: RestartPolicy = { most: 8, window: 300_000, firstPause: 200, longestPause: 5000 };

/** A worker that crashes again and again costs its peers a view each time, and the run can do without it. */
export const WORKER_POLICY: RestartPolicy = { most: 3, window: 600_000, firstPause: 1000, longestPause: 15_000 };

/** NATS carries nothing that the run needs. */
export const NATS_POLICY: RestartPolicy = { most: 10, window: 600_000, firstPause: 1000, longestPause: 30_000 };

/**
 * What to do about a crash at `now`. `restarts`: when the process was started again before, oldest first. A process that
 * has run well for a whole window starts with a clean record.
 */
export function afterCrash(policy: RestartPolicy, restarts: readonly number[], now: number): RestartDecision {
  const recent = restarts.filter((at) => now - at < policy.window).length;
  if (recent >= policy.most) return { kind: "giveUp", restarts: recent };
  return { kind: "restart", pause: Math.min(policy.longestPause, policy.firstPause * 2 ** recent) };
}
