import { LockstepError } from "../errors.ts";

/** @throws LockstepError LS_NOT_LOOPBACK for an address outside of this machine, until joining is secured. */
export function requireLoopback(host: string, insecure: boolean): void {
  const loopback = host === "localhost" || host === "::1" || /^127\./.test(host);
  if (loopback || insecure) return;
  throw new LockstepError(
    "LS_NOT_LOOPBACK",
    `${host} is not this machine, and joining over a network is not secured yet.`,
    {
      hint: "Use 127.0.0.1; a cluster over several machines is not supported in this version.",
      exitCode: 2,
    },
  );
}
