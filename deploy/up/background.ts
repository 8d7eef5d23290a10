import { readdirSync, writeFileSync } from "node:fs";
import { setPriority } from "node:os";

/** The least of the system's priorities, as `nice` counts. */
const LEAST = 19;

/**
 * Lets a process that leads a session of its own run where others leave time: all workers wait for the slowest one, so that
 * a few milliseconds on one of their cores are a few milliseconds of every step. Where the system schedules sessions
 * before processes (/proc/sys/kernel/sched_autogroup_enabled) a process's own priority says nothing about other sessions:
 * the session gets it as well. What the system refuses is let be.
 * @see sched(7)
 */
export function toBackground(pid: number): void {
  attempt(() => {
    for (const thread of readdirSync(`/proc/${pid}/task`)) setPriority(Number(thread), LEAST);
  });
  attempt(() => writeFileSync(`/proc/${pid}/autogroup`, String(LEAST)));
}

function attempt(what: () => void): void {
  try {
    what();
  } catch {
    // It ended meanwhile, or the system does not know or allow it.
  }
}
