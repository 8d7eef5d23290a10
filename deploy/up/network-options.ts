import { networkInterfaces } from "node:os";
import { resolve } from "node:path";
import { type Command, Option } from "commander";
import { usage } from "../../shared/config/options.ts";
import { advertisedHost, isLoopback, parsePageAddress, parsePorts } from "../../shared/process/addresses.ts";
import { certificateFiles } from "../../shared/security/supplied.ts";

/** How the processes of a run are reached, as the command line says it. */
export interface NetworkOptions {
  readonly advertise: string | null;
  readonly ports: string | null;
  /** Where HTTP pages listen; null: on loopback. */
  readonly http: string | null;
  readonly tls: "auto" | "always";
  /** Where copies go of what the owner's other processes need to join and to ask pages; null: nowhere. */
  readonly share: string | null;
  /** --tls-ca and its companions, as they are handed on. */
  readonly certificates: readonly string[];
  /** For tests in network namespaces alone. */
  readonly insecure: boolean;
}

export const LOCAL_NETWORK: NetworkOptions = {
  advertise: null,
  ports: null,
  http: null,
  tls: "auto",
  share: null,
  certificates: [],
  insecure: false,
};

/** What commander makes of the options below. */
export interface RawNetworkOptions {
  readonly advertise?: string;
  readonly ports?: string;
  readonly http?: string;
  readonly tls?: string;
  readonly share?: string;
  readonly tlsCa?: string;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly insecureTestNetwork?: boolean;
}

/** The options that say how others reach what listens here. */
export function networkOptions(command: Command): Command {
  return command
    .option("--advertise <address>", "what others dial, where that is not the address to listen on")
    .option("--ports <range>", "ports to listen on, such as 7400-7419 (default: any free ones)")
    .option(
      "--http <address>",
      "where metrics and pages listen, with ports or without: 0.0.0.0:7430-7439; beyond loopback they take TLS and a token (default: 127.0.0.1)",
    )
    .option(
      "--tls-ca <file>",
      "with --tls-cert and --tls-key: certificates of your own (default: the run issues its own)",
    )
    .option("--tls-cert <file>", "this machine's certificate, with what stands between it and the authority")
    .option("--tls-key <file>", "its key")
    .addOption(new Option("--insecure-test-network", "listen beyond loopback without any security").hideHelp());
}

/** `--tls`, for whoever decides it for a run. */
export const tlsOption = () =>
  new Option("--tls <when>", "auto: beyond loopback; always: on loopback as well")
    .choices(["auto", "always"])
    .default("auto");

/** `--share`, for whoever starts a coordinator. */
export const shareOption = () =>
  new Option(
    "--share <directory>",
    "keep there what processes of yours elsewhere need: join, a link that lasts as long as the run; http-token and ca.pem, for Prometheus",
  );

/** @throws LockstepError LS_USAGE */
export function networkOf(raw: RawNetworkOptions): NetworkOptions {
  const { advertise = null, ports = null, http = null, tls = "auto", tlsCa, tlsCert, tlsKey } = raw;
  if (ports !== null) parsePorts(ports);
  if (http !== null) parsePageAddress(http);
  const share = raw.share === undefined ? null : resolve(raw.share);
  if (tls !== "auto" && tls !== "always") throw usage(`--tls must be auto or always; it is "${tls}".`);
  const files = certificateFiles({ "tls-ca": tlsCa, "tls-cert": tlsCert, "tls-key": tlsKey });
  const certificates =
    files === null ? [] : ["--tls-ca", files.authority, "--tls-cert", files.certificate, "--tls-key", files.key];
  return { advertise, ports, http, tls, share, certificates, insecure: raw.insecureTestNetwork === true };
}

/** @throws LockstepError LS_ADVERTISE, LS_USAGE, before anything is fetched or started */
export function checkNetwork(listen: string, network: NetworkOptions): void {
  const { advertise, http, share, insecure } = network;
  if (share !== null && !isSecured(listen, network))
    throw usage("--share is for runs that are secured: with --listen ADDRESS, or --tls always.");
  if (http !== null && !isLoopback(parsePageAddress(http).host) && !isSecured(listen, network) && !insecure)
    throw usage("--http beyond this machine is for runs that are secured: with --listen ADDRESS, or --tls always.");
  advertisedHost(listen, advertise, networkInterfaces());
}

export const isSecured = (listen: string, { tls, insecure }: NetworkOptions): boolean =>
  !insecure && (tls === "always" || !isLoopback(listen));

const given = (name: string, value: string | null): string[] => (value === null ? [] : [name, value]);

/** Arguments of the coordinator's process. */
export function coordinatorArguments(listen: string, network: NetworkOptions): string[] {
  const { advertise, ports, http, tls, share, certificates, insecure } = network;
  return [
    ...["--listen", listen, ...given("--advertise", advertise), ...given("--ports", ports), ...given("--http", http)],
    ...(tls === "always" ? ["--tls", tls] : []),
    ...given("--share", share),
    ...certificates,
    ...(insecure ? ["--insecure-test-network"] : []),
  ];
}

/** Arguments of workers on the coordinator's machine: in a secured run they listen where they reach it. */
export function workerArguments(listen: string, network: NetworkOptions): string[] {
  const { advertise, ports, http, certificates, insecure } = network;
  const chosen = !isSecured(listen, network) || advertise !== null || certificates.length > 0;
  return [
    ...(chosen ? ["--listen", listen] : []),
    ...given("--advertise", advertise),
    ...given("--ports", ports),
    ...given("--http", http),
    ...certificates,
    ...(insecure ? ["--insecure-test-network"] : []),
  ];
}
