import { spawn } from "node:child_process";
import type { Command } from "commander";
import { builtProgram } from "../up/built.ts";
import {
  coordinatorArguments,
  networkOf,
  networkOptions,
  type RawNetworkOptions,
  shareOption,
  tlsOption,
} from "../up/network-options.ts";
import { runDirectory } from "../up/prepare.ts";

/** Adds `lockstep coordinator RUN`: the coordinator of a cluster whose processes are started one by one. */
export function registerCoordinator(program: Command): void {
  networkOptions(program.command("coordinator"))
    .addOption(tlsOption())
    .addOption(shareOption())
    .description("only the coordinator of a run, for clusters that are started process by process")
    .argument("<run>", "the run's directory, with its config.json, or its id below runs/")
    .option("--listen <address>", "where it listens: an address, or 0.0.0.0 for all", "127.0.0.1")
    .option("--port <port>", "where it listens; 0: a free port, see endpoints.json", "0")
    .option("--again", "it was started before and has crashed: the run's speed is counted from its first start", false)
    .action(async (run: string, options: RawNetworkOptions & { listen: string; port: string; again: boolean }) => {
      const args = ["--run", runDirectory(run), ...coordinatorArguments(options.listen, networkOf(options))];
      if (options.ports === undefined) args.push("--port", options.port);
      if (!options.again) args.push("--start");
      process.exitCode = await inForeground([process.execPath, builtProgram("coordinator/main.js")], args, {});
    });
}

/** Runs a part of Lockstep in place of this process, as far as its terminal and its caller can tell. */
export async function inForeground(
  program: readonly string[],
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<number> {
  const [command, ...first] = program;
  const child = spawn(command!, [...first, ...args], {
    stdio: ["pipe", "inherit", "inherit"],
    env: { ...process.env, ...env, LOCKSTEP_PARENT: String(process.pid) },
  });
  child.stdin.on("error", () => {});
  // A terminal sends SIGINT to both; whoever sends it to this process alone means the child as well.
  const forward = (signal: NodeJS.Signals) => {
    if (signal !== "SIGINT" || !process.stdin.isTTY) child.kill(signal);
  };
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  for (const signal of signals) process.on(signal, forward);
  const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (...end) => resolve(end));
  });
  for (const name of signals) process.off(name, forward);
  return code ?? (signal === "SIGINT" ? 130 : 1);
}
