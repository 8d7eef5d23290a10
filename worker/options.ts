import { hostname } from "node:os";
import { parseArgs } from "node:util";
import { LockstepError } from "../shared/errors.ts";
import { ANY_PORT, type Ports, parsePorts } from "../shared/process/addresses.ts";
import { type CertificateFiles, certificateFiles } from "../shared/security/supplied.ts";

export interface WorkerOptions {
  /** lockstep://host:port/token, host:port, or the path of the run's endpoints.json. */
  readonly join: string;
  readonly name: string;
  /** The machine: workers of one get neighbouring shards. */
  readonly host: string;
  /** null: the address by which the coordinator is reached. */
  readonly listen: string | null;
  /** The host that others dial; null: what follows from `listen`. */
  readonly advertise: string | null;
  readonly ports: Ports;
  /** Where the HTTP pages listen; null: on loopback, or where a worker without security listens. */
  readonly http: string | null;
  /** Certificates of the user's own; null: the run issues one. */
  readonly certificates: CertificateFiles | null;
  readonly insecure: boolean;
  /** Overrides of the config's place part on this machine. */
  readonly data: string | null;
}

/**
 * @param env LOCKSTEP_JOIN is --join where that is a secret, which arguments are not; LOCKSTEP_HOST names the machine where
 * each container has a host name of its own
 * @throws LockstepError LS_USAGE
 */
export function parseWorkerOptions(args: readonly string[], env = process.env): WorkerOptions {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        join: { type: "string" },
        name: { type: "string" },
        listen: { type: "string" },
        advertise: { type: "string" },
        ports: { type: "string" },
        http: { type: "string" },
        "tls-ca": { type: "string" },
        "tls-cert": { type: "string" },
        "tls-key": { type: "string" },
        data: { type: "string" },
        "insecure-test-network": { type: "boolean", default: false },
      },
    });
    const join = values.join ?? env.LOCKSTEP_JOIN;
    if (join === undefined) throw new Error("--join is needed");
    return {
      join,
      name: values.name ?? `${hostname()}-${process.pid}`,
      host: env.LOCKSTEP_HOST || hostname(),
      listen: values.listen ?? null,
      advertise: values.advertise ?? null,
      ports: values.ports === undefined ? ANY_PORT : parsePorts(values.ports),
      http: values.http ?? null,
      certificates: certificateFiles(values),
      insecure: values["insecure-test-network"],
      data: values.data ?? null,
    };
  } catch (cause) {
    if (cause instanceof LockstepError) throw cause;
    throw new LockstepError("LS_USAGE", `${(cause as Error).message}.`, {
      hint: "See `npx lockstep worker --help`.",
      exitCode: 2,
      cause,
    });
  }
}
