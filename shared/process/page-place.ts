import { networkInterfaces } from "node:os";
import type { PageGuard } from "../metrics/page-guard.ts";
import { advertisedHost, isLoopback } from "./addresses.ts";
import { requireLoopback } from "./loopback.ts";

/** Where a process' HTTP pages listen, and what guards them there. */
export interface PagePlace {
  readonly host: string;
  readonly advertise: string;
  readonly guard: PageGuard | null;
}

/**
 * Pages stay on this machine unless somebody says otherwise, and are guarded then.
 * @param asked `--http`; null: nobody has said anything
 * @param otherwise where they listen where nothing is secured
 * @throws LockstepError LS_NOT_LOOPBACK where they would be open to others without security, LS_ADVERTISE
 */
export function pagePlace(
  asked: string | null,
  otherwise: { readonly host: string; readonly advertise: string; readonly insecure: boolean },
  guard: PageGuard | null,
): PagePlace {
  if (guard === null) {
    if (asked === null) return { ...otherwise, guard };
    requireLoopback(asked, otherwise.insecure);
    return { host: asked, advertise: asked, guard };
  }
  const host = asked ?? "127.0.0.1";
  if (isLoopback(host)) return { host, advertise: host, guard: null };
  // Reached by the same name as the rest of this process, where that is not said by the address itself.
  const advertise = advertisedHost(
    host,
    host === "0.0.0.0" || host === "::" ? otherwise.advertise : null,
    networkInterfaces(),
  );
  return { host, advertise, guard };
}
