import { readFileSync } from "node:fs";
import { join } from "node:path";
import { splitAddress } from "../../shared/process/addresses.ts";
import { parseLink } from "../../shared/security/join-link.ts";

/**
 * What is wrong with the join line of `--prepared DIR`, which was made before the coordinator listened; null: nothing.
 * Hosts may differ, since a machine has several names; ports may not.
 * @param coordinator host:port
 * @throws what the line cannot be read for
 */
export function flawOfPreparedLine(directory: string, coordinator: string): string | null {
  const wanted = splitAddress(parseLink(readFileSync(join(directory, "join"), "utf8").trim()).address)!.port;
  const found = splitAddress(coordinator)?.port;
  if (found === wanted) return null;
  return (
    `The line in ${join(directory, "join")} names port ${wanted}, and the coordinator listens at ${coordinator}: whoever has it ` +
    `does not find the run. NATS takes the first free port of --ports, the coordinator the next one: --ports ${wanted - 1}-${wanted}`
  );
}
