import { lock } from "proper-lockfile";
import { LockstepError } from "../../shared/errors.ts";

/** A holder refreshes its lock more often than this; an older one is a dead process's, in milliseconds. */
const STALE = 5000;

/**
 * Holds a run directory for one `up` at a time. The lock of a killed process is taken over after a few seconds.
 * @param onLost somebody else has taken the run: this process was stopped for longer than a lock lives
 * @param patience how long a lock may be somebody else's before it is an error, in milliseconds
 * @throws LockstepError LS_RUN_LOCKED while another process works on the run.
 */
export async function lockRun(
  directory: string,
  onLost: (error: Error) => void,
  note: (text: string) => void,
  patience = STALE + 1500,
): Promise<() => Promise<void>> {
  const take = () => lock(directory, { stale: STALE, update: STALE / 4, realpath: false, onCompromised: onLost });
  const deadline = performance.now() + patience;
  for (let said = false; ; ) {
    try {
      const release = await take();
      return () => release().catch(() => {});
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== "ELOCKED") throw unusable(directory, cause);
      if (performance.now() > deadline) {
        throw new LockstepError("LS_RUN_LOCKED", `Another process works on ${directory}.`, {
          hint: "Wait for its end, or look at it with `npx lockstep status`.",
          cause,
        });
      }
      if (!said) note(`${directory} is locked; a lock that a killed process left is taken over in ${STALE / 1000} s`);
      said = true;
      await new Promise((resolve) => setTimeout(resolve, 250));
    }
  }
}

const unusable = (directory: string, cause: unknown) =>
  new LockstepError("LS_RUN_DIRECTORY", `${directory} cannot be used: ${(cause as Error).message}.`, {
    hint: "Give a directory that can be written with --out.",
    exitCode: 3,
    cause,
  });
