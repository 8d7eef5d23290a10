import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { builtProgram } from "../../deploy/up/built.ts";
import { Child } from "../../deploy/up/child.ts";
import { LineTail } from "../../deploy/up/line-tail.ts";
import { writeConfig } from "../../deploy/up/prepare.ts";
import { readEndpoints } from "../../deploy/up/probe.ts";
import { Reaper } from "../../deploy/up/reaper.ts";
import { readJoinLink } from "../../deploy/up/runs.ts";
import type { RunStatus } from "../../deploy/up/status.ts";
import type { Config } from "../../shared/config/schema.ts";
import { type JoinToken, parseLink } from "../../shared/security/join-link.ts";
import { computeEnvironment } from "../../worker/compute/tensorflow.ts";
import { ATTACKS, type Target } from "../security/attacks.ts";
import { type EventLine, NotSeen } from "./disturbed-run.ts";
import { Network } from "./network.ts";
import { judgeFiles } from "./play.ts";
import type { QuietRun } from "./quiet-run.ts";

/** Worker w is on host w + 1; the coordinator is on host 0, and an intruder on the last one. */
export interface NetworkCell {
  readonly name: string;
  /** False where this system cannot do it. */
  harm(network: Network): unknown;
  /** How long it lasts, in milliseconds. */
  readonly millis: number;
}

export const NETWORK_CELLS: readonly NetworkCell[] = [
  { name: "every packet from and to a worker is lost", harm: (n) => n.isolate(2), millis: 4000 },
  { name: "a worker's network is closed", harm: (n) => n.close(2), millis: 4000 },
  { name: "packets of one worker to another are lost, one way", harm: (n) => n.lose(1, 2), millis: 12_000 },
  { name: "packets of a worker to the coordinator are lost, one way", harm: (n) => n.lose(2, 0), millis: 4000 },
  { name: "packets of the coordinator to a worker are lost, one way", harm: (n) => n.lose(0, 2), millis: 4000 },
  { name: "the coordinator is cut off from everybody", harm: (n) => n.isolate(0), millis: 5000 },
  { name: "a worker's link is slow", harm: (n) => n.slow(2, 2000), millis: 6000 },
  {
    name: "a worker's packets are lost where its link's queue is full",
    harm: (n) => n.slow(2, 20_000, "4kb"),
    millis: 6000,
  },
  { name: "a tenth of a worker's packets is lost", harm: (n) => n.drop(2, 10), millis: 6000 },
];

const WORKERS = 3;
const INTRUDER = WORKERS + 1;
const PATIENCE = 120_000;
/** A step takes half a second: the faults last for seconds. */
const PACE_MILLIS = 150;

export interface NetworkResult {
  readonly name: string;
  readonly skipped: boolean;
  readonly seconds: number;
}

/**
 * One real run over hosts in namespaces, joined by the line that the coordinator prints, over mutual TLS. These faults come one
 * after the other, each when the one before is healed; then a host without a token tries all that it can.
 */
export async function playNetwork(
  quiet: QuietRun,
  cells: readonly NetworkCell[],
  out: string,
  onResult: (result: NetworkResult) => unknown,
): Promise<string | null> {
  const network = Network.make(WORKERS + 2);
  const reaper = new Reaper();
  const children: Child[] = [];
  const events = new LineTail(join(out, "events.ndjson"));
  const seen: EventLine[] = [];
  const steps = new LineTail(join(out, "steps.ndjson"));
  let step = -1;
  const read = () => {
    seen.push(...(events.read() as EventLine[]));
    step = Number(steps.read().at(-1)?.step ?? step);
  };
  const until = async (what: string, holds: () => boolean) => {
    const deadline = performance.now() + PATIENCE;
    for (read(); !holds(); read()) {
      if (performance.now() > deadline) throw new NotSeen(`not within ${PATIENCE / 1000} s: ${what}`);
      await sleep(50);
    }
  };
  /** All workers have shards in the newest view, and two steps were done in it. */
  const healed = async () => {
    let from = -1;
    await until("all workers compute again", () => {
      const view = seen.findLast(({ type }) => type === "view");
      const shards = Object.values((view?.shards ?? {}) as Record<string, string>);
      if (shards.length < WORKERS || shards.includes("joining")) from = -1;
      else if (from < 0) from = step;
      return from >= 0 && step >= from + 2;
    });
  };
  try {
    mkdirSync(out, { recursive: true });
    await start();
    await healed();
    pace(PACE_MILLIS);
    for (const cell of cells) {
      const started = Date.now();
      const skipped = cell.harm(network) === false;
      if (!skipped) {
        await sleep(cell.millis);
        network.heal();
        const at = Date.now();
        await healed();
        // Whoever was not noticed to be away may still be found out.
        await until("steps after it", () => Date.now() > at + 2500);
        await healed();
      }
      onResult({ name: cell.name, skipped, seconds: (Date.now() - started) / 1000 });
    }
    const started = Date.now();
    // It needs its time, and the run is to outlast it.
    pace(4 * PACE_MILLIS);
    const broken = await intrude();
    onResult({ name: "an intruder without a token", skipped: false, seconds: (Date.now() - started) / 1000 });
    if (broken.length > 0) return `the intruder got further than it should: ${broken.join("; ")}`;
    pace(PACE_MILLIS);
    await healed();
    pace(0);
    const codes = await Promise.race([
      Promise.all(children.map(({ ended }) => ended)),
      sleep(PATIENCE, null, { ref: false }),
    ]);
    if (codes === null) throw new NotSeen("the run does not end by itself");
    return codes.every(({ code }) => code === 0)
      ? judgeFiles(out, quiet, ["stateSha256", "lineage"])
      : `exit codes ${codes.map(({ code }) => code)}`;
  } catch (error) {
    if (!(error instanceof NotSeen)) throw error;
    return error.message;
  } finally {
    await Promise.all(children.map((child) => (child.running ? child.stop(0) : null)));
    reaper.close();
    network.remove();
  }

  /** The coordinator can be reached from its network alone; returns what was said. */
  function operate(...args: string[]): string {
    const [program, ...rest] = network.on(0, [process.execPath, builtProgram("deploy/cli/main.js"), ...args]);
    return spawnSync(program!, rest, { encoding: "utf8" }).stdout;
  }

  function pace(millis: number): void {
    for (let w = 0; w < WORKERS; w++)
      operate("inject", out, "slow", "--worker", `worker-${w}`, "--millis", String(millis));
  }

  /** What an intruder achieved that it should not have. */
  async function intrude(): Promise<string[]> {
    const token = (...more: string[]): JoinToken =>
      parseLink(
        operate("token", "create", out, ...more)
          .trim()
          .split(" ")
          .at(-1)!,
      ).token!;
    const tokens = { expired: token("--lifetime", "1s"), used: token("--uses", "1"), revoked: token() };
    operate("token", "revoke", out, tokens.revoked.id);
    useUp(tokens.used);
    const { run, workers } = JSON.parse(operate("status", out, "--json")) as RunStatus;
    const { coordinator } = readEndpoints(out)!;
    const target: Target = { run, coordinator, members: workers.map(({ address }) => address), tokens };
    const program = [process.execPath, builtProgram("test/security/intruder.js"), JSON.stringify(target)];
    const [command, ...args] = network.on(INTRUDER, program);
    const child = spawn(command!, args, { stdio: ["ignore", "pipe", "inherit"] });
    const lines: string[] = [];
    for await (const line of createInterface({ input: child.stdout })) lines.push(line);
    const outcomes = lines.map((line) => JSON.parse(line) as { name: string; outcome: string; held: boolean });
    if (outcomes.length < ATTACKS.length) return [`it made only ${outcomes.length} of ${ATTACKS.length} attempts`];
    return outcomes.filter(({ held }) => !held).map(({ name, outcome }) => `${name}: ${outcome}`);
  }

  /** Lets somebody in by a token for one, who goes no further. */
  function useUp(token: JoinToken): void {
    const once = [process.execPath, builtProgram("test/security/join-once.js"), readEndpoints(out)!.coordinator];
    const [program, ...args] = network.on(0, [...once, JSON.stringify(token)]);
    spawnSync(program!, args, { stdio: "inherit" });
  }

  async function start(): Promise<void> {
    const config = JSON.parse(readFileSync(quiet.config, "utf8")) as Config;
    const place = { ...config.place, workers: WORKERS, outDirectory: out, nats: null };
    writeConfig(out, { ...config, runId: `network-${process.pid}`, place });
    const child = (host: number, name: string, program: string, args: readonly string[]) => {
      const command = () => network.on(host, [process.execPath, builtProgram(program), ...args]);
      const env = { ...computeEnvironment({ device: "cpu", threads: 1 }) };
      children.push(new Child({ name, command, env, logFile: join(out, "logs", `${name}.log`) }, 0, reaper));
    };
    child(0, "coordinator", "coordinator/main.js", ["--run", out, "--start", "--listen", network.address(0)]);
    await until("the coordinator prints how to join", () => readJoinLink(out) !== null);
    for (let w = 0; w < WORKERS; w++) {
      const join_ = ["--join", readJoinLink(out)!, "--name", `worker-${w}`];
      child(w + 1, `worker-${w}`, "worker/main.js", join_);
    }
  }
}
