import type { Counters } from "../memory/control.ts";

/**
 * LOCKSTEP_SHARD_DELAY=NAME:MILLIS makes the worker of that name slow from its start, NAME:xFACTOR so many times as slow as it
 * is: in tests and benchmarks, where nobody can say in time that it should be.
 */
export function initialDelay(
  name: string,
  setting = process.env.LOCKSTEP_SHARD_DELAY ?? "",
): { readonly millis: number; readonly factor: number } {
  const [, who, times, value] = /^(.*):(x?)(\d{1,5}(?:\.\d+)?)$/.exec(setting) ?? [];
  if (who !== name) return { millis: 0, factor: 1 };
  return times === "x" ? { millis: 0, factor: Math.max(1, Number(value)) } : { millis: Number(value), factor: 1 };
}

const never = new Int32Array(new SharedArrayBuffer(4));

/**
 * Makes the compute thread as slow as an overloaded machine would: it sleeps after every shard for as long as the main
 * thread has set, in milliseconds or in times of what it took. Nothing but time is touched. `lockstep inject RUN slow` and tests use it; it is 0 otherwise.
 */
export function delayShard(counters: Counters, computeMillis: number): void {
  const millis = counters.get("shardDelay") + counters.get("shardSlowness") * computeMillis;
  if (millis > 0) Atomics.wait(never, 0, 0, millis);
}
