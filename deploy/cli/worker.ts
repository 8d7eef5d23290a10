import type { Command } from "commander";
import { usage } from "../../shared/config/options.ts";
import { hostPort, splitAddress } from "../../shared/process/addresses.ts";
import { requireLoopback } from "../../shared/process/loopback.ts";
import { parseLink } from "../../shared/security/join-link.ts";
import { computeEnvironment } from "../../worker/compute/tensorflow.ts";
import { networkOf, networkOptions, type RawNetworkOptions } from "../up/network-options.ts";
import { inForeground } from "./coordinator.ts";

interface WorkerCommandOptions extends RawNetworkOptions {
  readonly join: string;
  readonly name?: string;
  readonly device: string;
  readonly listen?: string;
  readonly data?: string;
}

/** Adds `lockstep worker --join`: one worker more for a run. */
export function registerWorker(program: Command): void {
  networkOptions(program.command("worker"))
    .description("one worker that joins a run, on this machine or another one")
    .requiredOption(
      "--join <link|file>",
      "lockstep://host:port/token as the coordinator printed it, or the run's endpoints.json, or host:port on this machine",
    )
    .option("--name <name>", "how it is called in displays and metrics (default: host and process id)")
    .option("--device <device>", "cpu, or the index of a GPU", "cpu")
    .option("--listen <address>", "where it listens (default: the address by which it reaches the coordinator)")
    .option("--data <directory>", "where the run's data set is on this machine (default: where the run says)")
    .action(async (options: WorkerCommandOptions) => {
      const network = networkOf(options);
      const { advertise, ports, http, certificates, insecure } = network;
      const args = ["--join", joinOf(options.join, insecure || certificates.length > 0)];
      if (options.listen !== undefined) args.push("--listen", options.listen);
      if (advertise !== null) args.push("--advertise", advertise);
      if (ports !== null) args.push("--ports", ports);
      if (http !== null) args.push("--http", http);
      args.push(...certificates);
      if (options.name !== undefined) args.push("--name", options.name);
      if (options.data !== undefined) args.push("--data", options.data);
      if (insecure) args.push("--insecure-test-network");
      if (!/^(cpu|\d+)$/.test(options.device))
        throw usage(`--device must be cpu or the index of a GPU; it is "${options.device}".`);
      const env = computeEnvironment({ device: options.device, threads: 1 });
      process.exitCode = await inForeground("worker/main.js", args, env);
    });
}

/**
 * @param anywhere beyond this machine without a token: certificates are supplied
 * @throws LockstepError LS_USAGE, LS_JOIN_LINK, LS_NOT_LOOPBACK
 */
function joinOf(text: string, anywhere: boolean): string {
  if (text.endsWith(".json")) return text;
  if (text.startsWith("lockstep://")) {
    const { token, address } = parseLink(text);
    return token === null && anywhere ? address : text;
  }
  const address = splitAddress(text.replace(/^\w+:\/\//, ""));
  if (address === null) throw usage(`--join must be a link, host:port or an endpoints.json; it is "${text}".`);
  requireLoopback(address.host, anywhere);
  return hostPort(address.host, address.port);
}
