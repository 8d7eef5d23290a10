import { parseArgs } from "node:util";
import { LockstepError } from "../shared/errors.ts";
import { ANY_PORT, type Ports, parsePorts } from "../shared/process/addresses.ts";
import { type CertificateFiles, certificateFiles } from "../shared/security/supplied.ts";
import { parseLifetime } from "../shared/security/tokens.ts";
import { CERTIFICATE_MILLIS } from "./security/run-security.ts";

export interface CoordinatorOptions {
  /** The run's directory, with config.json. */
  readonly run: string;
  readonly listen: string;
  /** The host that others dial; null: what follows from `listen`. */
  readonly advertise: string | null;
  readonly ports: Ports;
  /** Where the HTTP pages listen; null: on loopback, or where a run without security listens. */
  readonly http: string | null;
  /** `auto`: beyond loopback. */
  readonly tls: "auto" | "always";
  /** Where copies of what the owner's other processes need are kept; null: nowhere. */
  readonly share: string | null;
  /** Certificates of the user's own; null: the run makes its own. */
  readonly certificates: CertificateFiles | null;
  /** Lifetime of the certificates that the run issues, in milliseconds. */
  readonly certificateMillis: number;
  /** The run is started or resumed by a person; not set when a crashed coordinator is started again. */
  readonly start: boolean;
  readonly insecure: boolean;
}

/** @throws LockstepError LS_USAGE */
export function parseCoordinatorOptions(args: readonly string[]): CoordinatorOptions {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        run: { type: "string" },
        listen: { type: "string", default: "127.0.0.1" },
        advertise: { type: "string" },
        ports: { type: "string" },
        port: { type: "string", default: "0" },
        http: { type: "string" },
        tls: { type: "string", default: "auto" },
        "tls-ca": { type: "string" },
        "tls-cert": { type: "string" },
        "tls-key": { type: "string" },
        share: { type: "string" },
        "certificate-lifetime": { type: "string" },
        start: { type: "boolean", default: false },
        "insecure-test-network": { type: "boolean", default: false },
      },
    });
    if (values.run === undefined) throw new Error("--run is needed");
    if (values.tls !== "auto" && values.tls !== "always") throw new Error("--tls must be auto or always");
    const lifetime = values["certificate-lifetime"];
    return {
      run: values.run,
      listen: values.listen,
      advertise: values.advertise ?? null,
      ports: portsOf(values.ports, values.port),
      http: values.http ?? null,
      tls: values.tls,
      share: values.share ?? null,
      certificates: certificateFiles(values),
      certificateMillis: (lifetime === undefined ? null : parseLifetime(lifetime)) ?? CERTIFICATE_MILLIS,
      start: values.start,
      insecure: values["insecure-test-network"],
    };
  } catch (cause) {
    if (cause instanceof LockstepError) throw cause;
    throw new LockstepError("LS_USAGE", `${(cause as Error).message}.`, {
      hint: "See `npx lockstep coordinator --help`.",
      exitCode: 2,
      cause,
    });
  }
}

/** A range, or one port of which 0 means any. */
function portsOf(range: string | undefined, port: string): Ports {
  if (range !== undefined) return parsePorts(range);
  return port === "0" ? ANY_PORT : parsePorts(port);
}
