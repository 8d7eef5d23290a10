import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { writeSynthetic } from "../../../deploy/data/synthetic.ts";
import { builtProgram } from "../../../deploy/up/built.ts";
import { parseCell } from "../../faults/cell.ts";
import { DisturbedRun } from "../../faults/disturbed-run.ts";
import { SMALL_SET } from "../../up/runs.ts";
import {
  type Firing,
  firing,
  type RunningPrometheus,
  type StartPrometheus,
  untilAlerts,
  untilValue,
} from "./prometheus.ts";
import { scaledRules } from "./scaled-rules.ts";

/** A fault of a real worker, and the alert that must name this worker. */
export interface AlertCase {
  readonly fault: string;
  /** As test/faults/cell.ts writes it. */
  readonly cell: string;
  readonly alert: string;
  readonly worker: string;
  /** What ends a fault that does not end by itself. */
  readonly mend?: string;
}

/** Every micro-batch is slowed, so that workers sleep rather than compete for processors. */
const PACE = "slow:60";

/** A freeze is longer than the patience of LockstepWorkerMissing, and ends. */
export const ALERT_CASES: readonly AlertCase[] = [
  { fault: "death", cell: "worker-1/kill", alert: "LockstepWorkerLost", worker: "worker-1" },
  { fault: "freeze", cell: "worker-2/freeze:20000", alert: "LockstepWorkerMissing", worker: "worker-2" },
  {
    fault: "slow worker",
    cell: "worker-0/slow:160",
    alert: "LockstepStragglerPersistent",
    worker: "worker-0",
    mend: `worker-0/${PACE}`,
  },
  { fault: "flipped bit", cell: "worker-1/flip-weights", alert: "LockstepReplicaMismatch", worker: "worker-1" },
];

export interface AlertResult {
  readonly case: AlertCase;
  /** Workers that the alert named while it fired. */
  readonly named: readonly string[];
  /** Seconds from the fault to the alert. */
  readonly raised: number;
  /** Seconds from the end of the fault (the thaw, or when it was taken back; a death and a flip end at once) to the end of the alert. */
  readonly cleared: number;
  /** Other alerts that fired meanwhile. */
  readonly others: readonly string[];
}

export interface AlertOptions {
  /** Scratch space. */
  readonly directory: string;
  readonly prometheus: StartPrometheus;
  /** By which the rules' windows are divided. */
  readonly factor: number;
  readonly cases?: readonly AlertCase[];
  readonly onResult?: (result: AlertResult) => void;
  readonly signal?: AbortSignal;
}

/** Scrapes and evaluations a second apart. */
const SECONDS = 1;
const PATIENCE = 90_000;
const WORKERS = 3;
/** Far more than are made: the run is ended from outside. */
const STEPS = 20_000;

/**
 * Plays faults in a run of three real workers, one after the other, scraped by a real Prometheus with the shipped rules.
 * @throws Error where an alert is not raised, names another worker or does not end
 */
export async function playAlerts({
  directory,
  prometheus,
  factor,
  cases = ALERT_CASES,
  onResult = () => {},
  signal,
}: AlertOptions): Promise<readonly AlertResult[]> {
  const data = join(directory, "data");
  const out = join(directory, "run");
  mkdirSync(directory, { recursive: true });
  await writeSynthetic(data, SMALL_SET);
  const config = join(directory, "config.json");
  writeFileSync(config, JSON.stringify({ place: { checkpoint: { everySteps: 20, keep: 2 } } }));
  const rules = join(directory, "rules.yml");
  writeFileSync(rules, scaledRules(factor));
  const model = builtProgram("test/faults/programs/small-model.mjs");
  const length = ["--steps", String(STEPS), "--batch", "40", "--shards", "8", "--no-eval"];
  const run = new DisturbedRun({ config, data, model }, out, WORKERS, length);
  let server: RunningPrometheus | null = null;
  const end = async () => {
    await Promise.all([run.abandon(), server?.stop()]);
    server = null;
  };
  const interrupt = () => void end().then(() => process.exit(130));
  signal?.addEventListener("abort", interrupt);
  const results: AlertResult[] = [];
  try {
    await run.healed();
    server = await prometheus(out, rules, SECONDS);
    const { url } = server;
    // What was counted before the first scrape would be no increase.
    await untilValue(
      url,
      `count(lockstep_member_losses_total) == ${WORKERS} and on () count(up == 1) == ${WORKERS + 1}`,
    );
    for (const one of cases) {
      // Whoever died has come back at full speed.
      for (const name of run.names) await run.inject(parseCell(`${name}/${PACE}`));
      await untilAlerts(`no alert before ${one.fault}`, url, PATIENCE, (alerts) => !alerts.some(fromFaults));
      const result = await playCase(run, url, one);
      results.push(result);
      onResult(result);
    }
    return results;
  } finally {
    signal?.removeEventListener("abort", interrupt);
    await end();
  }
}

/** Does it speak of what is injected here? Others may fire on a machine that is busy with other work. */
const fromFaults = ({ alert }: Firing): boolean => ALERT_CASES.some((one) => one.alert === alert);

async function playCase(run: DisturbedRun, url: string, one: AlertCase): Promise<AlertResult> {
  const named = new Set<string>();
  const others = new Set<string>();
  const watch = (alerts: readonly Firing[]) => {
    for (const { alert, worker } of alerts)
      (alert === one.alert ? named : others).add(alert === one.alert ? worker : alert);
    return alerts.some(({ alert, worker }) => alert === one.alert && worker === one.worker);
  };
  const { fault, target } = parseCell(one.cell);
  const struck = performance.now();
  await run.inject({ fault, target });
  await untilAlerts(`${one.alert} names ${one.worker}`, url, PATIENCE, watch);
  const raised = (performance.now() - struck) / 1000;
  if (one.mend !== undefined) await run.inject(parseCell(one.mend));
  const over = one.mend === undefined ? struck + (fault.name === "freeze" ? fault.millis : 0) : performance.now();
  // Meanwhile it may name others as well.
  const look = setInterval(() => void firing(url).then(watch, () => {}), 500);
  try {
    await untilAlerts(`${one.alert} ends`, url, PATIENCE, (alerts) => !watch(alerts));
    const cleared = (performance.now() - over) / 1000;
    await run.healed();
    if (named.size !== 1) throw new Error(`${one.alert} names ${[...named].join(", ")}; the fault was ${one.worker}'s`);
    return { case: one, named: [...named], raised, cleared, others: [...others].sort() };
  } finally {
    clearInterval(look);
  }
}
