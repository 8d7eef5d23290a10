import { networkInterfaces } from "node:os";
import type { PageGuard } from "../metrics/page-guard.ts";
import { ANY_PORT, advertisedHost, isLoopback, type Ports, parsePageAddress } from "./addresses.ts";
import { requireLoopback } from "./loopback.ts";

/** Where a process' HTTP pages listen, and what guards them there. */
export interface PagePlace {
  readonly host: string;
  readonly ports: Ports;
  readonly advertise: string;
  readonly guard: PageGuard | null;
}

/**
 * Pages stay on this machine unless somebody says otherwise, and are guarded then.
 * @param asked `--http`, with or without ports; null: nobody has said anything
 * @param otherwise where they listen where nothing is secured
 * @throws LockstepError LS_NOT_LOOPBACK where they would be open to others without security, LS_ADVERTISE
 */
export function pagePlace(
  asked: string | null,
  otherwise: { readonly host: string; readonly advertise: string; readonly insecure: boolean },
  guard: PageGuard | null,
): PagePlace {
  const wanted = asked === null ? null : parsePageAddress(asked);
  if (guard === null) {
    if (wanted === null) return { ...otherwise, ports: ANY_PORT, guard };
    requireLoopback(wanted.host, otherwise.insecure);
    return { ...wanted, advertise: wanted.host, guard };
  }
  const { host, ports } = wanted ?? { host: "127.0.0.1", ports: ANY_PORT };
  if (isLoopback(host)) return { host, ports, advertise: host, guard: null };
  // Reached by the same name as the rest of this process, where that is not said by the address itself.
  const advertise = advertisedHost(
    host,
    host === "0.0.0.0" || host === "::" ? otherwise.advertise : null,
    networkInterfaces(),
  );
  return { host, ports, advertise, guard };
}
