import { mkdirSync } from "node:fs";
import { dirname } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import lockfile from "proper-lockfile";
import { LockstepError } from "../../shared/errors.ts";

const STALE_MILLIS = 20_000;
const POLL_MILLIS = 300;
const LONGEST_WAIT_MILLIS = 2 * 3600 * 1000;

/**
 * Runs `work` while no other process does under the same path. A holder that died is noticed after 20 seconds.
 * @param path what is being made; the lock stands beside it, with .lock behind its name
 * @param onWait called once where another process is at it
 * @param work its signal fires where this process stood still for so long that another one took the lock over
 * @throws LockstepError LS_LOCK_LOST in that case, LS_LOCK_WAIT after two hours
 */
export async function withLock<T>(
  path: string,
  onWait: () => void,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  mkdirSync(dirname(path), { recursive: true });
  const lost = new AbortController();
  const release = await take(path, onWait, (cause) => {
    const message = `Another process went on with ${path} while this one stood still.`;
    lost.abort(new LockstepError("LS_LOCK_LOST", message, { hint: "Run the command again.", exitCode: 3, cause }));
  });
  try {
    return await work(lost.signal);
  } catch (error) {
    lost.signal.throwIfAborted();
    throw error;
  } finally {
    // A lost lock belongs to somebody else by now.
    if (!lost.signal.aborted) await release();
  }
}

async function take(path: string, onWait: () => void, onCompromised: (error: Error) => void) {
  const until = Date.now() + LONGEST_WAIT_MILLIS;
  for (let told = false; ; told = true) {
    try {
      return await lockfile.lock(path, { realpath: false, stale: STALE_MILLIS, onCompromised });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ELOCKED") throw error;
    }
    if (Date.now() > until) {
      throw new LockstepError("LS_LOCK_WAIT", `Another process has held ${path}.lock for two hours.`, {
        hint: "End it, or delete that folder where nothing runs.",
        exitCode: 3,
      });
    }
    if (!told) onWait();
    await pause(POLL_MILLIS);
  }
}
