import type { Counters } from "../memory/control.ts";

/**
 * LOCKSTEP_SHARD_DELAY=NAME:MILLIS makes the worker of that name slow from its start: in tests, where nobody can say in time
 * that it should be.
 */
export function initialDelay(name: string, setting = process.env.LOCKSTEP_SHARD_DELAY ?? ""): number {
  const [, who, millis] = /^(.*):(\d{1,5})$/.exec(setting) ?? [];
  return who === name ? Number(millis) : 0;
}

const never = new Int32Array(new SharedArrayBuffer(4));

/**
 * Makes the compute thread as slow as an overloaded machine would: it sleeps after every shard for as long as the main
 * thread has set. Nothing but time is touched. `lockstep inject RUN slow` and tests use it; it is 0 otherwise.
 */
export function delayShard(counters: Counters): void {
  const millis = counters.get("shardDelay");
  if (millis > 0) Atomics.wait(never, 0, 0, millis);
}
