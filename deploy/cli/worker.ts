import { existsSync, readFileSync } from "node:fs";
import { hostname } from "node:os";
import { join, resolve } from "node:path";
import { type Command, Option } from "commander";
import { usage } from "../../shared/config/options.ts";
import { sentenceOf } from "../../shared/errors.ts";
import { hostPort, splitAddress } from "../../shared/process/addresses.ts";
import { requireLoopback } from "../../shared/process/loopback.ts";
import { type JoinLink, parseLink } from "../../shared/security/join-link.ts";
import { computeEnvironment } from "../../worker/compute/tensorflow.ts";
import { cacheDirectory } from "../data/locations.ts";
import { workerCommand } from "../up/built.ts";
import { devicesOf } from "../up/devices.ts";
import { networkOf, networkOptions, type RawNetworkOptions } from "../up/network-options.ts";
import { WORKER_POLICY } from "../up/restart-policy.ts";
import { type GroupOptions, keepWorkers } from "../up/worker-group.ts";
import { inForeground } from "./coordinator.ts";
import { countOf } from "./up.ts";

interface WorkerCommandOptions extends RawNetworkOptions {
  readonly join: string;
  readonly name?: string;
  readonly devices?: string;
  readonly workerRestarts: string;
  readonly logs?: string;
  readonly listen?: string;
  readonly data?: string;
}

/** Adds `lockstep worker --join`: one worker more for a run. */
export function registerWorker(program: Command): void {
  networkOptions(program.command("worker"))
    .description("a worker, or one for each device, that joins a run, on this machine or another one")
    .addOption(
      new Option(
        "--join <link|file>",
        "lockstep://host:port/token as the coordinator printed it, a file that holds it, - for standard input, the run's endpoints.json, or host:port on this machine",
      )
        .env("LOCKSTEP_JOIN")
        .makeOptionMandatory(),
    )
    .option("--name <name>", "how it is called in displays and metrics (default: host and process id)")
    .option(
      "--devices <list>",
      "a worker for each of these, started again when it crashes: all (every GPU), 0,1 or cpu:N (default: one on the CPU)",
    )
    .option("--worker-restarts <n>", "with --devices: how often each is started again", String(WORKER_POLICY.most))
    .option("--logs <directory>", "with --devices: where the workers write (default: logs in the cache)")
    .option("--listen <address>", "where it listens (default: the address by which it reaches the coordinator)")
    .option(
      "--data <directory>",
      "where the run's data set is on this machine; fetch: from the coordinator (default: where the run says, else fetch)",
    )
    .action(async (options: WorkerCommandOptions) => {
      const network = networkOf(options);
      const { advertise, ports, http, certificates, insecure } = network;
      const given = givenBy(options.join);
      hideSecret(given);
      const link = joinOf(given, insecure || certificates.length > 0);
      // A token is a secret, and everybody on a machine sees the arguments of all its processes.
      const secret = link.startsWith("lockstep://");
      const args = secret ? [] : ["--join", link];
      const env: Record<string, string> = secret ? { LOCKSTEP_JOIN: link } : {};
      if (options.listen !== undefined) args.push("--listen", options.listen);
      if (advertise !== null) args.push("--advertise", advertise);
      if (ports !== null) args.push("--ports", ports);
      if (http !== null) args.push("--http", http);
      args.push(...certificates);
      if (options.name !== undefined && options.devices === undefined) args.push("--name", options.name);
      if (options.data !== undefined) args.push("--data", options.data);
      if (insecure) args.push("--insecure-test-network");
      process.exitCode = await (options.devices === undefined
        ? inForeground(workerCommand(), args, { ...env, ...computeEnvironment({ device: "cpu", threads: 1 }) })
        : keepWorkers({ ...groupOf(options, options.devices, args), env }));
    });
}

/** A worker finishes its step and hands over within a few seconds; the last one waits for its checkpoint. */
const DRAIN_MILLIS = 60_000;

/** @throws LockstepError LS_USAGE, LS_NO_GPU */
function groupOf(options: WorkerCommandOptions, list: string, args: readonly string[]): GroupOptions {
  const devices = devicesOf(list);
  const name = options.name ?? hostname();
  const logs = resolve(options.logs ?? join(cacheDirectory(), "logs"));
  const note = (text: string) => void process.stderr.write(`${text}\n`);
  note(`${devices.length} worker${devices.length === 1 ? "" : "s"} on ${devices.join(", ")}; logs in ${logs}`);
  return {
    devices,
    name,
    command: [...workerCommand(), ...args],
    logs,
    policy: { ...WORKER_POLICY, most: countOf("--worker-restarts", options.workerRestarts) },
    drain: DRAIN_MILLIS,
    note,
  };
}

/** What --join says; "-" stands for what comes over standard input. @throws LockstepError LS_USAGE */
function givenBy(join: string): string {
  return join === "-" ? linkIn(readFileSync(0, "utf8"), "standard input") : join;
}

/** Arguments can be read by everybody on this machine for as long as the process lives; its title takes their place. */
function hideSecret(given: string): void {
  if (given.includes("/ls1-")) process.title = "lockstep worker";
}

/**
 * What a worker joins by: its link, also out of a file, or an address without a token.
 * @param anywhere beyond this machine without a token: certificates are supplied
 * @throws LockstepError LS_USAGE, LS_JOIN_LINK, LS_NOT_LOOPBACK
 */
export function joinOf(given: string, anywhere: boolean): string {
  if (given.endsWith(".json")) return given;
  const text = existsSync(given) ? lineIn(given) : given;
  if (text.startsWith("lockstep://")) {
    const { token, address } = parseLink(text);
    return token === null && anywhere ? address : text;
  }
  const address = splitAddress(text.replace(/^\w+:\/\//, ""));
  if (address === null)
    throw usage(
      `--join must be a link, a file that holds one, host:port or an endpoints.json; it is "${text}", and no such file is there.`,
      "See `npx lockstep worker --help`.",
    );
  requireLoopback(address.host, anywhere);
  return hostPort(address.host, address.port);
}

/** What `doctor --peer` takes: a link, a file that holds one, or host:port of any machine. @throws LockstepError LS_USAGE, LS_JOIN_LINK */
export function peerOf(given: string): JoinLink {
  const text = existsSync(given) ? lineIn(given) : given;
  if (text.startsWith("lockstep://")) return parseLink(text);
  const address = splitAddress(text);
  if (address === null) throw usage(`--peer must be a link, a file with one, or host:port; it is "${text}".`);
  return { address: hostPort(address.host, address.port), token: null };
}

/** The link in a file, which may hold the whole line that the coordinator printed. @throws LockstepError LS_USAGE */
function lineIn(file: string): string {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    throw usage(`${file} cannot be read: ${sentenceOf(error)}.`);
  }
  return linkIn(text, file);
}

/** @throws LockstepError LS_USAGE */
function linkIn(text: string, where: string): string {
  const link = /lockstep:\/\/\S+/.exec(text)?.[0];
  if (link !== undefined) return link;
  throw usage(`${where} holds no lockstep://host:port/token.`);
}
