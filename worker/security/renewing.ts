import { LockstepError, sentenceOf } from "../../shared/errors.ts";
import type { CertificateReply, RenewRequest } from "../../shared/rpc/clients.ts";
import { untilRenewal, untilRetry, validityOf } from "../../shared/security/renewal.ts";
import type { Credentials, Trust } from "../../shared/security/trust.ts";
import { credentialsFrom, requestKey } from "./obtain.ts";

export interface RenewingParts {
  readonly trust: Trust;
  readonly incarnation: string;
  /** Asks the coordinator, over the connection that there is. */
  ask(request: RenewRequest): Promise<CertificateReply>;
  /** For a certificate that has ended: comes in again, by the token. */
  rejoin(): Promise<Credentials>;
  log(what: string, detail: object): void;
}

/** Keeps a worker's certificate fresh for as long as it lives. Returns what ends it. */
export function keepRenewed({ trust, incarnation, ask, rejoin, log }: RenewingParts): () => void {
  let timer: NodeJS.Timeout;
  let issued = Date.now();
  const ends = () => validityOf(trust.current.certificate).until;
  const again = (wait: number) => {
    timer = setTimeout(() => void renew(), wait);
    timer.unref();
  };
  const renew = async () => {
    try {
      const { authority } = trust.current;
      const wanted = requestKey(authority, incarnation);
      const next = Date.now() < ends() ? credentialsFrom(wanted, authority, await ask(wanted.request)) : await rejoin();
      trust.replace(next);
      issued = Date.now();
      log("renewed its certificate", { until: new Date(ends()).toISOString() });
      again(untilRenewal(issued, ends(), issued));
    } catch (error) {
      const code = error instanceof LockstepError ? error.code : undefined;
      log("could not renew its certificate", { why: sentenceOf(error), code });
      again(untilRetry(issued, Math.max(ends(), issued)));
    }
  };
  again(untilRenewal(issued, ends(), issued));
  return () => clearTimeout(timer);
}
