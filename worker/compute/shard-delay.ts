import type { Counters } from "../memory/control.ts";

const never = new Int32Array(new SharedArrayBuffer(4));

/**
 * Makes the compute thread as slow as an overloaded machine would: it sleeps after every shard for as long as the main
 * thread has set. Nothing but time is touched. `lockstep inject RUN slow` and tests use it; it is 0 otherwise.
 */
export function delayShard(counters: Counters): void {
  const millis = counters.get("shardDelay");
  if (millis > 0) Atomics.wait(never, 0, 0, millis);
}
