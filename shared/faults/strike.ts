import { spawn } from "node:child_process";
import { writeSync } from "node:fs";
import { Socket } from "node:net";
import { type Fault, faultText } from "./fault.ts";

export const STRIKES = "an injected fault strikes";

/**
 * Does to this process what the fault says, from any of its threads. False where the fault is not one of the process as a
 * whole.
 * @throws Error the injected exception
 */
export function strikeProcess({ name, millis }: Pick<Fault, "name" | "millis">): boolean {
  switch (name) {
    case "kill":
      process.kill(process.pid, "SIGKILL");
      return true;
    case "abort":
      process.kill(process.pid, "SIGABRT");
      return true;
    case "freeze":
      if (millis > 0) thawAfter(millis);
      process.kill(process.pid, "SIGSTOP");
      return true;
    case "exception":
      throw new Error("an injected exception");
    case "disconnect":
      breakConnections();
      return true;
    default:
      return false;
  }
}

/** A line in the log of this process, from any thread, before the fault can keep it from writing one. */
export function noteStrike(fault: Fault): void {
  writeSync(2, `${JSON.stringify({ time: Date.now(), msg: STRIKES, fault: faultText(fault) })}\n`);
}

/** Who stands still cannot wake itself. */
function thawAfter(millis: number): void {
  const script = `setTimeout(() => process.kill(${process.pid}, "SIGCONT"), ${millis})`;
  spawn(process.execPath, ["-e", script], { stdio: "ignore", detached: true }).unref();
}

/** Every TCP connection of this process breaks at once; whoever wants to may dial again. */
function breakConnections(): void {
  const { _getActiveHandles } = process as unknown as { _getActiveHandles(): unknown[] };
  for (const handle of _getActiveHandles.call(process)) {
    if (handle instanceof Socket && handle.remoteAddress !== undefined) handle.destroy();
  }
}
