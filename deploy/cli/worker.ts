import { type Command, Option } from "commander";
import { usage } from "../../shared/config/options.ts";
import { requireLoopback } from "../../shared/process/loopback.ts";
import { computeEnvironment } from "../../worker/compute/tensorflow.ts";
import { inForeground } from "./coordinator.ts";

interface WorkerCommandOptions {
  readonly join: string;
  readonly name?: string;
  readonly device: string;
  readonly listen: string;
  readonly data?: string;
  readonly insecureTestNetwork?: boolean;
}

/** Adds `lockstep worker --join`: one worker more for a run. */
export function registerWorker(program: Command): void {
  program
    .command("worker")
    .description("one worker that joins a run; loopback only")
    .requiredOption("--join <address|file>", "host:port of the coordinator, or the run's endpoints.json")
    .option("--name <name>", "how it is called in displays and metrics (default: host and process id)")
    .option("--device <device>", "cpu, or the index of a GPU", "cpu")
    .option("--listen <address>", "where it listens; loopback only", "127.0.0.1")
    .option("--data <directory>", "where the run's data set is on this machine (default: where the run says)")
    .addOption(new Option("--insecure-test-network", "listen beyond loopback without any security").hideHelp())
    .action(async (options: WorkerCommandOptions) => {
      const insecure = options.insecureTestNetwork === true;
      requireLoopback(options.listen, insecure);
      const args = ["--join", joinOf(options.join, insecure), "--listen", options.listen];
      if (options.name !== undefined) args.push("--name", options.name);
      if (options.data !== undefined) args.push("--data", options.data);
      if (insecure) args.push("--insecure-test-network");
      if (!/^(cpu|\d+)$/.test(options.device))
        throw usage(`--device must be cpu or the index of a GPU; it is "${options.device}".`);
      const env = computeEnvironment({ device: options.device, threads: 1 });
      process.exitCode = await inForeground("worker/main.js", args, env);
    });
}

/** @throws LockstepError LS_USAGE, LS_NOT_LOOPBACK */
function joinOf(text: string, insecure: boolean): string {
  if (text.endsWith(".json")) return text;
  const address = /^(?:\w+:\/\/)?(\[[0-9a-f:]+\]|[^:/]+):(\d+)$/i.exec(text);
  if (address === null) throw usage(`--join must be host:port or an endpoints.json; it is "${text}".`);
  requireLoopback(address[1]!.replace(/^\[|\]$/g, ""), insecure);
  return `${address[1]}:${address[2]}`;
}
