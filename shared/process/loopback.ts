import { LockstepError } from "../errors.ts";
import { isLoopback } from "./addresses.ts";

/** @throws LockstepError LS_NOT_LOOPBACK for an address outside of this machine where nothing is secured. */
export function requireLoopback(host: string, insecure: boolean): void {
  if (isLoopback(host) || insecure) return;
  throw new LockstepError("LS_NOT_LOOPBACK", `${host} is not this machine, and nothing secures the way there.`, {
    hint: "Join by the whole line that the coordinator printed, lockstep://host:port/token, or give --tls-ca, --tls-cert and --tls-key.",
    exitCode: 2,
  });
}
