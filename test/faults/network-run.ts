import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { writeConfig } from "../../deploy/up/prepare.ts";
import type { Config } from "../../shared/config/schema.ts";
import { computeEnvironment } from "../../worker/compute/tensorflow.ts";
import { HostsRun } from "../hosts/hosts-run.ts";
import { Network } from "../hosts/network.ts";
import { attackCount } from "../security/attacks.ts";
import { NotSeen } from "./disturbed-run.ts";
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
const NAMES = Array.from({ length: WORKERS }, (_, w) => `worker-${w}`);
const COORDINATOR = "coordinator";
const INTRUDER = WORKERS + 1;
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
  const run = new HostsRun({ network, out, logs: join(out, "logs") });
  const healed = () => run.compute(NAMES, 2, [COORDINATOR]);
  const pace = (millis: number) => {
    for (const name of NAMES) run.operate("inject", out, "slow", "--worker", name, "--millis", String(millis));
  };
  try {
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
        await run.until("steps after it", () => Date.now() > at + 2500);
        await healed();
      }
      onResult({ name: cell.name, skipped, seconds: (Date.now() - started) / 1000 });
    }
    const started = Date.now();
    // It needs its time, and the run is to outlast it.
    pace(4 * PACE_MILLIS);
    const outcomes = await run.intrude(INTRUDER, false);
    onResult({ name: "an intruder without a token", skipped: false, seconds: (Date.now() - started) / 1000 });
    const broken = outcomes.filter(({ held }) => !held).map(({ name, outcome }) => `${name}: ${outcome}`);
    if (broken.length > 0) return `the intruder got further than it should: ${broken.join("; ")}`;
    if (outcomes.length < attackCount(false)) return `it made only ${outcomes.length} attempts`;
    pace(PACE_MILLIS);
    await healed();
    pace(0);
    const codes = await run.ended();
    return Object.values(codes).every((code) => code === 0)
      ? judgeFiles(out, quiet, ["stateSha256", "lineage"])
      : `exit codes ${JSON.stringify(codes)}`;
  } catch (error) {
    if (!(error instanceof NotSeen)) throw error;
    return error.message;
  } finally {
    await run.close();
    network.remove();
  }

  async function start(): Promise<void> {
    const config = JSON.parse(readFileSync(quiet.config, "utf8")) as Config;
    const place = { ...config.place, workers: WORKERS, outDirectory: out, nats: null };
    writeConfig(out, { ...config, runId: `network-${process.pid}`, place });
    const rule = ["--run", out, "--start", "--listen", network.address(0)];
    run.start(0, COORDINATOR, "coordinator/main.js", rule);
    const link = await run.joinLine([COORDINATOR]);
    const env = { ...computeEnvironment({ device: "cpu", threads: 1 }) };
    for (const [w, name] of NAMES.entries())
      run.start(w + 1, name, "worker/main.js", ["--join", link, "--name", name], { env });
  }
}
