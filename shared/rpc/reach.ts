import type { Trust } from "../security/trust.ts";
import { memberClient } from "./clients.ts";
import { grpc } from "./service.ts";

/** How long a host that is reached at all may take, in milliseconds. */
const PATIENCE = 3000;

/** What a call ends with that did not get to the other side. */
const UNREACHED: readonly grpc.status[] = [
  grpc.status.UNAVAILABLE,
  grpc.status.DEADLINE_EXCEEDED,
  grpc.status.CANCELLED,
];

/**
 * Calls a worker's exchange port, and knows it by its certificate. Resolves with null where it was reached, whatever it
 * answered, else with why not.
 */
export function reach(address: string, incarnation: string, trust: Trust | null): Promise<string | null> {
  const client = memberClient(address, { trust, incarnation, ownConnection: true });
  return new Promise<string | null>((resolve) => {
    const deadline = Date.now() + PATIENCE;
    client.pullEntries({ run: "", step: 0 }, { deadline }, (error) => {
      if (error === null || !UNREACHED.includes(error.code)) return resolve(null);
      // Its port answers and the call does not: whoever is refused there is told apart from whoever finds nobody.
      resolve(
        error.code === grpc.status.DEADLINE_EXCEEDED ? `no answer in ${PATIENCE / 1000} s` : reasonIn(error.details),
      );
    });
  }).finally(() => client.close());
}

/** The system's own words in what gRPC says around them. */
function reasonIn(details: string): string {
  const said = /Last error: (.*?)(?:\. Resolution note.*)?$/s.exec(details)?.[1] ?? details;
  return said.replace(/^Error: /, "").slice(0, 200);
}
