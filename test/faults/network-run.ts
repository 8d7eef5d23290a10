import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { builtProgram } from "../../deploy/up/built.ts";
import { Child } from "../../deploy/up/child.ts";
import { LineTail } from "../../deploy/up/line-tail.ts";
import { writeConfig } from "../../deploy/up/prepare.ts";
import { Reaper } from "../../deploy/up/reaper.ts";
import type { Config } from "../../shared/config/schema.ts";
import { computeEnvironment } from "../../worker/compute/tensorflow.ts";
import { type EventLine, NotSeen } from "./disturbed-run.ts";
import { Network } from "./network.ts";
import { judgeFiles } from "./play.ts";
import type { QuietRun } from "./quiet-run.ts";

/** Worker w is on host w + 1; the coordinator is on host 0. */
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
const PATIENCE = 120_000;
/** A step takes half a second: the faults last for seconds. */
const PACE_MILLIS = 150;

export interface NetworkResult {
  readonly name: string;
  readonly skipped: boolean;
  readonly seconds: number;
}

/** One real run over hosts in namespaces; these faults come one after the other, each when the one before is healed. */
export async function playNetwork(
  quiet: QuietRun,
  cells: readonly NetworkCell[],
  out: string,
  onResult: (result: NetworkResult) => unknown,
): Promise<string | null> {
  const network = Network.make(WORKERS + 1);
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
    start();
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

  /** The coordinator can be reached from its network alone. */
  function pace(millis: number): void {
    for (let w = 0; w < WORKERS; w++) {
      const args = ["inject", out, "slow", "--worker", `worker-${w}`, "--millis", String(millis)];
      const [program, ...rest] = network.on(0, [process.execPath, builtProgram("deploy/cli/main.js"), ...args]);
      spawnSync(program!, rest, { stdio: "ignore" });
    }
  }

  function start(): void {
    const config = JSON.parse(readFileSync(quiet.config, "utf8")) as Config;
    const place = { ...config.place, workers: WORKERS, outDirectory: out, nats: null };
    writeConfig(out, { ...config, runId: `network-${process.pid}`, place });
    const child = (host: number, name: string, program: string, args: readonly string[]) => {
      const listen = ["--listen", network.address(host), "--insecure-test-network"];
      const command = () => network.on(host, [process.execPath, builtProgram(program), ...args, ...listen]);
      const env = { ...computeEnvironment({ device: "cpu", threads: 1 }) };
      children.push(new Child({ name, command, env, logFile: join(out, "logs", `${name}.log`) }, 0, reaper));
    };
    child(0, "coordinator", "coordinator/main.js", ["--run", out, "--start"]);
    for (let w = 0; w < WORKERS; w++) {
      const join_ = ["--join", join(out, "endpoints.json"), "--name", `worker-${w}`];
      child(w + 1, `worker-${w}`, "worker/main.js", join_);
    }
  }
}
