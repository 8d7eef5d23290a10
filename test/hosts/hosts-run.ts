import { spawn, spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { builtProgram } from "../../deploy/up/built.ts";
import { Child } from "../../deploy/up/child.ts";
import { LineTail } from "../../deploy/up/line-tail.ts";
import { Reaper } from "../../deploy/up/reaper.ts";
import { readJoinLink } from "../../deploy/up/runs.ts";
import { type EventMark, type History, historyOf } from "../bench/pauses/history.ts";
import { NotSeen } from "../faults/disturbed-run.ts";
import type { Outcome } from "../security/attempt.ts";
import type { CpuShare } from "./cpu-share.ts";
import type { Network } from "./network.ts";

/** Long enough for a worker that starts, loads and gets level on a busy machine. */
const PATIENCE = 180_000;
const POLL = 50;

/** The coordinator is on host 0. */
const RULER = 0;

export interface HostsRunOptions {
  readonly network: Network;
  /** The run's directory. */
  readonly out: string;
  /** Each process writes to a file here, named after it. */
  readonly logs: string;
}

/**
 * A run whose processes are on hosts of their own, observed by its files: the hosts share this machine's disk, and nothing
 * but their network besides.
 */
export class HostsRun {
  readonly #network: Network;
  readonly #out: string;
  readonly #logs: string;
  readonly #reaper = new Reaper();
  readonly #children = new Map<string, Child>();
  readonly #events: LineTail;
  readonly #steps: LineTail;
  readonly #seen: EventMark[] = [];
  #step = -1;
  #interrupted = false;

  constructor({ network, out, logs }: HostsRunOptions) {
    mkdirSync(logs, { recursive: true });
    this.#network = network;
    this.#out = out;
    this.#logs = logs;
    this.#events = new LineTail(join(out, "events.ndjson"));
    this.#steps = new LineTail(join(out, "steps.ndjson"));
  }

  /** Starts a built program on a host. `share`: as fast as that host is. */
  start(
    host: number,
    name: string,
    program: string,
    args: readonly string[],
    { env = {}, share = null }: { readonly env?: Record<string, string>; readonly share?: CpuShare | null } = {},
  ): Child {
    const command = this.#network.on(host, [process.execPath, builtProgram(program), ...args]);
    const spec = { name, command: () => share?.on(command) ?? command, env, logFile: this.logOf(name) };
    const child = new Child(spec, 0, this.#reaper);
    this.#children.set(name, child);
    return child;
  }

  logOf(name: string): string {
    return join(this.#logs, `${name}.log`);
  }

  child(name: string): Child {
    return this.#children.get(name)!;
  }

  /** A command of `lockstep` on the coordinator's host, which alone reaches it as its operator; returns what was said. */
  operate(...args: string[]): string {
    return this.#runOn(RULER, "deploy/cli/main.js", args);
  }

  /** Step that was final last; −1 before the first. */
  get step(): number {
    this.#read();
    return this.#step;
  }

  events(since = 0): readonly EventMark[] {
    this.#read();
    return this.#seen.filter(({ time }) => time >= since);
  }

  history(): History {
    const lines = (file: string) => new LineTail(join(this.#out, file)).read();
    return historyOf(lines("steps.ndjson"), lines("events.ndjson"));
  }

  /** What the newest view gives each worker: a range of shards, "joining", or nothing. */
  get shards(): Readonly<Record<string, string>> {
    return (this.events().findLast(({ type }) => type === "view")?.shards ?? {}) as Record<string, string>;
  }

  /** Whoever waits for something is told that it does not come. */
  interrupt(): void {
    this.#interrupted = true;
  }

  /** @throws NotSeen where it does not come in time, or the process that must go on until then has ended */
  async until(what: string, holds: () => boolean, alive: readonly string[] = []): Promise<void> {
    const deadline = performance.now() + PATIENCE;
    while (!holds()) {
      const gone = alive.find((name) => !this.child(name).running);
      if (gone !== undefined && !holds())
        throw new NotSeen(`${gone} ended before this was seen: ${what} (${this.child(gone).lastWords()})`);
      if (this.#interrupted) throw new NotSeen(`interrupted before this was seen: ${what}`);
      if (performance.now() > deadline) throw new NotSeen(`not within ${PATIENCE / 1000} s: ${what}`);
      await sleep(POLL);
    }
  }

  /** Exactly these workers have shards in the newest view, and `steps` more were done in it. */
  async compute(workers: readonly string[], steps: number, alive: readonly string[] = []): Promise<void> {
    let from = -1;
    const holds = () => {
      const all = Object.entries(this.shards);
      const working = all.filter(([, shards]) => shards !== "" && shards !== "joining").map(([name]) => name);
      const as = all.length === working.length && working.toSorted().join() === workers.toSorted().join();
      if (!as) from = -1;
      else if (from < 0) from = this.step;
      return from >= 0 && this.step >= from + steps;
    };
    await this.until(`${workers.join(", ")} compute`, holds, alive);
  }

  /** The line by which others join, once the coordinator listens. */
  async joinLine(alive: readonly string[]): Promise<string> {
    await this.until("the coordinator says how to join", () => readJoinLink(this.#out) !== null, alive);
    return readJoinLink(this.#out)!;
  }

  /**
   * What a host that has no token gets by its attacks.
   * @param quick without those that take many seconds
   */
  async intrude(host: number, quick: boolean): Promise<readonly Outcome[]> {
    const target = this.#runOn(RULER, "test/security/target-main.js", [this.#out]);
    const args = [builtProgram("test/security/intruder.js"), target, ...(quick ? ["quick"] : [])];
    const [program, ...rest] = this.#network.on(host, [process.execPath, ...args]);
    const child = spawn(program!, rest, { stdio: ["ignore", "pipe", "inherit"] });
    const outcomes: Outcome[] = [];
    for await (const line of createInterface({ input: child.stdout })) outcomes.push(JSON.parse(line) as Outcome);
    return outcomes;
  }

  /** How often the coordinator has refused something so far, by its code. */
  refusals(): Readonly<Record<string, number>> {
    return JSON.parse(this.#runOn(RULER, "test/security/refusals-main.js", [this.#out])) as Record<string, number>;
  }

  /** Exit codes of all processes, by their names. @throws NotSeen where one does not end */
  async ended(): Promise<Readonly<Record<string, number | null>>> {
    const all = [...this.#children];
    await this.until("the run ends by itself", () => all.every(([, child]) => !child.running));
    return Object.fromEntries(await Promise.all(all.map(async ([name, child]) => [name, (await child.ended).code])));
  }

  /** Ends every process. */
  async close(): Promise<void> {
    const children = [...this.#children.values()].filter(({ running }) => running);
    // Whoever started others ends them: twice means at once.
    for (const child of children) for (let n = 0; n < 2; n++) child.signal("SIGINT");
    await Promise.all(children.map((child) => child.stop(3000)));
    this.#reaper.close();
  }

  #runOn(host: number, program: string, args: readonly string[]): string {
    const [command, ...rest] = this.#network.on(host, [process.execPath, builtProgram(program), ...args]);
    const { status, stdout, stderr } = spawnSync(command!, rest, { encoding: "utf8" });
    if (status !== 0) throw new NotSeen(`${program} ${args[0]}: ${stderr.trim()}`);
    return stdout.trim();
  }

  #read(): void {
    this.#seen.push(...historyOf([], this.#events.read()).events);
    this.#step = Number(this.#steps.read().at(-1)?.step ?? this.#step);
  }
}
