import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { builtProgram } from "../../deploy/up/built.ts";

export const programFile = (name: string): string => fileURLToPath(new URL(`programs/${name}`, import.meta.url));

/** Waits for a condition; the test's own time limit is the bound. */
export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 20));
}

/** Is there such a process, zombies not counted? */
export function lives(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}

/** Ids of all processes whose command line names this directory and has this part. */
export function processesOf(directory: string, part = ""): number[] {
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  return pids
    .map(Number)
    .filter((pid) => lives(pid) && commandOf(pid).includes(directory) && commandOf(pid).includes(part));
}

function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8");
  } catch {
    return "";
  }
}

export interface Scratch {
  readonly path: string;
  readonly [Symbol.dispose]: () => void;
}

/** A directory that is removed at the end of a test. */
export function scratch(): Scratch {
  const path = mkdtempSync(join(tmpdir(), "lockstep-up-"));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

export interface Lockstep {
  readonly pid: number;
  readonly out: () => string;
  readonly err: () => string;
  readonly ended: Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>;
  signal(signal: NodeJS.Signals): void;
}

const main = builtProgram("deploy/cli/main.js");

/** Runs the built command line. */
export function lockstep(args: readonly string[], env: Record<string, string> = {}): Lockstep {
  if (!existsSync(main)) throw new Error("dist is missing or stale: node deploy/bootstrap.mjs build");
  const child = spawn(process.execPath, [main, ...args], {
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let [out, err] = ["", ""];
  child.stdout.on("data", (data) => {
    out += data;
  });
  child.stderr.on("data", (data) => {
    err += data;
  });
  return {
    pid: child.pid!,
    out: () => out,
    err: () => err,
    ended: new Promise((resolve) => child.once("close", (code, signal) => resolve({ code, signal }))),
    signal: (signal) => void child.kill(signal),
  };
}
