import { spawn } from "node:child_process";
import { mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { writeSynthetic } from "../../deploy/data/synthetic.ts";
import { builtProgram } from "../../deploy/up/built.ts";
import { LineTail } from "../../deploy/up/line-tail.ts";
import { LOCAL_NETWORK } from "../../deploy/up/network-options.ts";
import { prepareRun, writeConfig } from "../../deploy/up/prepare.ts";
import { bytes } from "../../deploy/up/text.ts";
import { openDataset } from "../../shared/data/dataset.ts";
import { Plan } from "../../shared/plan/plan.ts";
import { viewName } from "../../shared/protocol/view.ts";
import { spreadOf } from "../../worker/bench/spread.ts";
import { Fleet } from "./coordinator/fleet.ts";

/**
 * A real coordinator process with simulated workers over real sessions: what their heartbeats cost it, and how long the
 * loss of one takes until all others are in the next view. `npm run bench:coordinator -- [workers] [losses]`
 */
const workers = Number(process.argv[2] ?? 256);
const losses = Number(process.argv[3] ?? 5);
const QUIET_MILLIS = 12_000;
const STEP_MILLIS = 2_000;
const TICKS_PER_SECOND = 100;

const directory = mkdtempSync(join(tmpdir(), "lockstep-coordinator-"));
const data = join(directory, "data");
const out = join(directory, "run");
await writeSynthetic(data, { train: 2 * workers, test: 10, classes: 2, side: 8, seed: 1 });
const options = {
  data,
  out,
  workers,
  minWorkers: workers,
  shards: workers,
  batch: 2 * workers,
  steps: 10_000,
  eval: false,
};
const { config } = await prepareRun(
  options,
  { demo: false, network: LOCAL_NETWORK, devices: ["cpu"] },
  AbortSignal.timeout(60_000),
);
// Nobody is to be judged slow or silent, all of them being one process; whoever is killed is found by its closed stream.
const patience = { heartbeatTimeout: 4_000, grace: 20_000, answerTimeout: 20_000, sayAgain: 20_000 };
const timing = { ...config.place.timing, stepBudgetFloor: 60_000, ...patience };
writeConfig(out, {
  ...config,
  place: { ...config.place, minWorkers: 1, timing, checkpoint: { everySteps: 10_000, keep: 1 } },
});
const dataset = openDataset(data);
const plan = new Plan({ labels: dataset.train.labels, ...config.recipe });

const log = openSync(join(out, "said.log"), "a");
const coordinator = spawn(process.execPath, [builtProgram("coordinator/main.js"), "--run", out, "--start"], {
  stdio: ["pipe", "ignore", log],
  env: { ...process.env, LOCKSTEP_PARENT: String(process.pid) },
});
process.once("exit", () => {
  coordinator.kill("SIGKILL");
  rmSync(directory, { recursive: true, force: true });
});
/** Seconds of CPU that the coordinator has used. */
const used = () => {
  const fields = readFileSync(`/proc/${coordinator.pid}/stat`, "utf8").split(") ")[1]!.split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
};
/** Resident bytes of the coordinator. */
const resident = () =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${coordinator.pid}/status`, "utf8"))![1]) * 1024;
const until = async (condition: () => boolean, what: string, patience = 120_000) => {
  const deadline = performance.now() + patience;
  while (!condition()) {
    if (performance.now() > deadline) {
      throw new Error(`${what} did not come. ${readFileSync(join(out, "said.log"), "utf8").slice(-600)}`);
    }
    await sleep(5);
  }
};
const viewOf = (fleet: Fleet) => viewName(fleet.living[0]!.member.view?.id ?? { term: 0, number: 0 });
const inOneView = (fleet: Fleet) => {
  const entry = fleet.entered.get(viewOf(fleet));
  return entry !== undefined && fleet.living.every(({ incarnation }) => entry.members.has(incarnation)) ? entry : null;
};

const fleet = new Fleet(plan, config.recipe.steps, timing, 2 * QUIET_MILLIS);
const endpoints = join(out, "endpoints.json");
await until(() => {
  try {
    return readFileSync(endpoints, "utf8").length > 0;
  } catch {
    return false;
  }
}, "The coordinator");
fleet.start(workers, endpoints);
await until(
  () => fleet.living[0]!.member.view?.members.length === workers && inOneView(fleet) !== null,
  "The first view",
);

// All compute a long step: what comes and goes is heartbeats.
await sleep(2000);
const [before, started] = [used(), performance.now()];
await sleep(QUIET_MILLIS);
const share = (used() - before) / ((performance.now() - started) / 1000);
const perSecond = (workers * 1000) / config.place.timing.heartbeatInterval;
const memory = resident();
fleet.computeMillis = STEP_MILLIS;

const pauses: number[] = [];
for (let i = 0; i < losses; i++) {
  const { step } = fleet.living[0]!.member.tip;
  await until(() => fleet.living.every(({ member }) => member.tip.step > step), "The next step");
  const victim = fleet.living[Math.floor(fleet.living.length / 2)]!;
  const former = viewOf(fleet);
  const killed = performance.now();
  fleet.kill(victim);
  await until(() => viewOf(fleet) !== former && inOneView(fleet) !== null, "The next view");
  pauses.push(inOneView(fleet)!.at - killed);
}
const agreed = new LineTail(join(out, "events.ndjson"))
  .read()
  .filter(({ type, reason }) => type === "heal" && reason !== "start")
  .map(({ agreementMillis }) => Number(agreementMillis));
const shown = (list: readonly number[]) => {
  const sorted = list.toSorted((a, b) => a - b);
  return `${sorted[0]!.toFixed(0)} / ${spreadOf(list).median.toFixed(0)} / ${sorted.at(-1)!.toFixed(0)} ms`;
};
process.stdout.write(
  [
    `workers           ${workers}, simulated in one process; load average ${loadavg()[0]!.toFixed(1)}`,
    `heartbeats        ${perSecond} a second each way, ${(share * 100).toFixed(1)} % of a core of the coordinator, ` +
      `${((share / perSecond) * 1e6).toFixed(0)} microseconds for one and its answer`,
    `memory            ${bytes(memory)} resident in the coordinator`,
    `loss of a worker  ${shown(pauses)} until all others are in the next view (least / median / most of ${losses})`,
    `of it agreement   ${shown(agreed)} from the coordinator's proposal to its installation`,
    "",
  ].join("\n"),
);
process.exit(0);
