import { readFileSync } from "node:fs";
import { hostname } from "node:os";

/** Milliseconds since the machine started, on the monotonic clock that all its processes and threads read. */
export function machineMillis(): number {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1e3 + nanoseconds / 1e6;
}

/** What is to be added to machineMillis for milliseconds since 1970, as the machine's wall clock has it now. */
export const wallOffset = (): number => Date.now() - machineMillis();

/** Names the clock behind machineMillis: processes of equal name read the same one. */
export function clockName(): string {
  try {
    return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  } catch {
    return `${hostname()} ${process.pid}`;
  }
}
