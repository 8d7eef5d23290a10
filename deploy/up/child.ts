import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { toBackground } from "./background.ts";
import type { ProcessEnd } from "./exit-meaning.ts";
import type { GroupWatch } from "./reaper.ts";

/** By then a process of the background has its threads. */
const STARTED_MILLIS = 1000;

/** How to start a process. */
export interface ProcessSpec {
  readonly name: string;
  /** Program and arguments. `starts`: how often it was started before. */
  readonly command: (starts: number) => readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Its output is appended here. */
  readonly logFile: string;
  /** It runs where others leave time, see toBackground. */
  readonly background?: boolean;
}

/**
 * One process in a group of its own, so that Ctrl-C on the terminal reaches `up` alone, which then ends the run in order.
 * Its standard input is a pipe whose end tells it that `up` is gone.
 */
export class Child {
  readonly pid: number | null;
  readonly ended: Promise<ProcessEnd>;
  #over: ProcessEnd | null = null;
  readonly #process: ChildProcess;
  readonly #logFile: string;
  /** Size of the log when this process began to write. */
  readonly #logStart: number;

  constructor(spec: ProcessSpec, starts: number, groups: GroupWatch) {
    const [program, ...args] = spec.command(starts);
    const log = openSync(spec.logFile, "a");
    this.#logFile = spec.logFile;
    this.#logStart = fstatSync(log).size;
    const env = { ...process.env, ...spec.env, LOCKSTEP_PARENT: String(process.pid) };
    this.#process = spawn(program!, args, { stdio: ["pipe", log, log], detached: true, env });
    closeSync(log);
    this.#process.stdin?.on("error", () => {});
    const pid = this.#process.pid ?? null;
    this.pid = pid;
    if (pid !== null) groups.add(pid);
    if (spec.background === true) this.#process.once("spawn", () => this.#toBackground());
    this.ended = new Promise((resolve) => {
      const over = (end: ProcessEnd) => {
        if (this.#over !== null) return;
        this.#over = end;
        if (pid !== null) groups.remove(pid);
        this.#process.stdin?.destroy();
        resolve(end);
      };
      this.#process.once("exit", (code, signal) => over({ code, signal }));
      // Could not be started at all: the program does not exist or may not be run.
      this.#process.once("error", () => pid === null && over({ code: 3, signal: null }));
    });
  }

  /** Again when it has started: of threads that were just being made some have the former priority, and give it on. */
  #toBackground(): void {
    toBackground(this.pid!);
    setTimeout(() => this.running && toBackground(this.pid!), STARTED_MILLIS).unref();
  }

  get running(): boolean {
    return this.#over === null;
  }

  signal(signal: NodeJS.Signals): void {
    if (this.#over !== null || this.pid === null) return;
    try {
      process.kill(-this.pid, signal);
    } catch {
      // It ended meanwhile.
    }
  }

  /** Asks it to end and, after `grace` milliseconds, ends it. */
  async stop(grace: number): Promise<void> {
    this.signal("SIGTERM");
    this.signal("SIGCONT");
    const kill = setTimeout(() => this.signal("SIGKILL"), grace);
    await this.ended;
    clearTimeout(kill);
  }

  /** The last that this process said to people. */
  lastWords(): string | null {
    return lastWordsIn(readTail(this.#logFile, this.#logStart));
  }
}

/** JSON lines are for machines, the rest of these come from stack traces and the logs of Node, TensorFlow and NATS. */
const NOISE =
  /^(?:\{|at |node:|Node\.js v|\^|WARNING: All log messages|[IW]\d{4} |\[\d+\] .* \[(?:INF|WRN|DBG)\]|\d{4}-\d\d-\d\d .* [IW] )/;

/** Of a process's output: its last sentence with a code, else the last line of an error, else the last line for people. */
export function lastWordsIn(text: string): string | null {
  const lines = text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "" && !NOISE.test(line));
  const coded = lines.findLast((line) => /\[LS_[A-Z0-9_]+\]$/.test(line));
  return coded ?? lines.findLast((line) => /^\w*Error\b.*: /.test(line)) ?? lines.at(-1) ?? null;
}

const TAIL_BYTES = 16_384;

/** At most the last 16 KiB of what follows byte `from`. */
function readTail(file: string, from: number): string {
  try {
    const handle = openSync(file, "r");
    try {
      const { size } = fstatSync(handle);
      const start = Math.max(from, size - TAIL_BYTES);
      const buffer = Buffer.alloc(Math.max(0, size - start));
      return buffer.toString("utf8", 0, readSync(handle, buffer, 0, buffer.length, start));
    } finally {
      closeSync(handle);
    }
  } catch {
    return "";
  }
}
