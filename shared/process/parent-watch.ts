/**
 * A process that was started by another one must not outlive it: when LOCKSTEP_PARENT is set, the standard input is a
 * pipe from the parent, and its end is the parent's end.
 */
export function exitWithParent(onEnd: () => void): void {
  if (process.env.LOCKSTEP_PARENT === undefined) return;
  process.stdin.on("end", onEnd);
  process.stdin.on("close", onEnd);
  process.stdin.on("error", onEnd);
  process.stdin.resume();
}
