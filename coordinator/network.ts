import type { NetworkInterfaceInfo } from "node:os";
import type { Logger } from "pino";
import { advertisedHost, isLoopback } from "../shared/process/addresses.ts";
import type { Binding } from "../shared/rpc/service.ts";
import { RefusalLog } from "../shared/security/refusal-log.ts";
import type { CoordinatorOptions } from "./options.ts";
import type { RunSecurity } from "./security/run-security.ts";

/** Where a coordinator listens and what it tells others to dial. @throws LockstepError LS_ADVERTISE */
export function bindingFor(
  { listen, advertise, ports }: Pick<CoordinatorOptions, "listen" | "advertise" | "ports">,
  interfaces: Readonly<Record<string, readonly NetworkInterfaceInfo[] | undefined>>,
): Binding {
  return { host: listen, ports, advertise: advertisedHost(listen, advertise, interfaces) };
}

/**
 * The run's security; null where it needs none, since nobody else can reach it.
 * @param host what others dial
 * @throws LockstepError LS_SECURITY_FILES, LS_CERTIFICATE
 */
export async function securityFor(
  options: CoordinatorOptions,
  host: string,
  run: string,
  log: Logger,
  heard: { onRefused(code: string): void; onRevoked(): void },
): Promise<RunSecurity | null> {
  const { listen, tls, share, insecure, certificates, certificateMillis } = options;
  if (insecure || (tls === "auto" && isLoopback(listen))) return null;
  const refusals = new RefusalLog((refusal) => log.warn(refusal, "a connection was refused"));
  // X.509 takes a third of the time in which a coordinator starts, and runs of one machine need none of it.
  const security = await import("./security/run-security.ts");
  return security.RunSecurity.open({
    run,
    directory: options.run,
    share,
    hosts: [...new Set([host, "localhost", "127.0.0.1"])],
    lifetime: certificateMillis,
    supplied: certificates,
    onRefused: (refusal) => {
      refusals.add(refusal);
      heard.onRefused(refusal.code);
    },
    onRevoked: () => heard.onRevoked(),
  });
}
