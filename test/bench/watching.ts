import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { writeSynthetic } from "../../deploy/data/synthetic.ts";
import { onPath } from "../../deploy/up/nats-program.ts";
import { readEndpoints } from "../../deploy/up/probe.ts";
import { spreadOf } from "../../worker/bench/spread.ts";
import { type Lockstep, lockstep, until } from "../up/support.ts";
import { readPage } from "./monitoring/read-page.ts";
import { timesOf, windowsOf } from "./monitoring/windows.ts";

/**
 * What watching costs the steps of one run, in turns within that run: for some seconds everybody who watches works
 * (Prometheus with the shipped rules, nats-server, a consumer of the broadcasts, a reader of the live page), for as many
 * they are stopped (SIGSTOP), again and again. Two runs of the same recipe differ by more than what is looked for here.
 *
 *     npm run bench:watching -- [--pairs 12] [--seconds 15] [--batch 64] [--workers 2] [--model alexnet] [--data DIR] [--json]
 *
 * What processes of the run publish and count they do in both; `npm run bench:monitoring` has runs without.
 */
const { values } = parseArgs({
  options: {
    pairs: { type: "string", default: "12" },
    seconds: { type: "string", default: "15" },
    batch: { type: "string", default: "64" },
    workers: { type: "string", default: "2" },
    model: { type: "string", default: "alexnet" },
    data: { type: "string" },
    json: { type: "boolean", default: false },
  },
});
const say = (text: string) => void (values.json ? process.stderr : process.stdout).write(`${text}\n`);
const [pairs, millis] = [Number(values.pairs), 1000 * Number(values.seconds)];
/** Steps before the first window: caches, compiled code, and the starts of those who watch. */
const WARM_STEPS = 40;

/** The run's processes of this program, which lead sessions of their own. */
function processOf(parent: number, program: string): number {
  const children = readFileSync(`/proc/${parent}/task/${parent}/children`, "utf8").trim().split(" ").map(Number);
  const found = children.find((pid) => readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0")[0]!.endsWith(program));
  if (found === undefined) throw new Error(`up has started no ${program}`);
  return found;
}

if (["prometheus", "nats-server"].some((program) => onPath(program) === null)) {
  say("Prometheus or nats-server is not installed: apt install prometheus nats-server.");
  process.exit(3);
}
const directory = mkdtempSync(join(tmpdir(), "lockstep-watching-"));
let run: Lockstep | null = null;
try {
  const data = values.data ?? join(directory, "data");
  if (values.data === undefined) await writeSynthetic(data, { train: 1000, test: 20, classes: 10, side: 96, seed: 1 });
  const out = join(directory, "run");
  const args = ["--workers", values.workers, "--model", values.model, "--data", data, "--out", out, "--no-eval"];
  run = lockstep(["up", ...args, "--steps", "100000", "--batch", values.batch, "--seed", "1", "--monitoring"]);
  // The last line may be half written.
  const lines = () => readFileSync(join(out, "steps.ndjson"), "utf8").split("\n").slice(0, -1);
  const steps = () => lines().map((line) => JSON.parse(line) as { readonly time: string });
  const ended = run.ended.then(({ code }) => {
    throw new Error(`the run ended with ${code}: ${run!.err()}`);
  });
  // Its end is an error while something is waited for, and no news later.
  ended.catch(() => {});
  const seen = (condition: () => boolean) => Promise.race([until(condition), ended]);
  await seen(() => readEndpoints(out)?.http !== undefined && existsSync(join(out, "steps.ndjson")));
  const http = readEndpoints(out)!.http!;
  const consumer = lockstep(["watch", out, "--json"]);
  await seen(() => steps().length >= WARM_STEPS);
  const watchers = [processOf(run.pid, "prometheus"), processOf(run.pid, "nats-server"), consumer.pid];
  const turns: { readonly on: boolean; readonly from: number; readonly to: number }[] = [];
  for (let turn = 0; turn < 2 * pairs; turn++) {
    // On, off, off, on, …: a machine that grows slower is on both sides.
    const on = turn % 4 === 0 || turn % 4 === 3;
    for (const pid of watchers) process.kill(pid, on ? "SIGCONT" : "SIGSTOP");
    const from = Date.now();
    for (let second = 0; Date.now() - from < millis; second++) {
      if (on) await readPage(http, second);
      await sleep(1000);
    }
    turns.push({ on, from, to: Date.now() });
  }
  for (const pid of watchers) process.kill(pid, "SIGCONT");
  const windows = windowsOf(timesOf(steps()), turns);
  consumer.signal("SIGTERM");
  await consumer.ended;
  const ratio = spreadOf(windows.map(({ on, off }) => off / on));
  say(
    `one run, ${pairs} times ${values.seconds} s each: batch ${values.batch}, ${values.model}, ${values.workers} workers\n`,
  );
  say("| pair | a step unwatched, ms | watched, ms | speed, watched / unwatched |\n|---:|---:|---:|---:|");
  for (const [i, { on, off }] of windows.entries())
    say(`| ${i + 1} | ${off.toFixed(1)} | ${on.toFixed(1)} | ${(off / on).toFixed(3)} |`);
  say(`\nmedian: ${ratio.median.toFixed(3)} (${ratio.first.toFixed(3)} to ${ratio.third.toFixed(3)})`);
  if (values.json) process.stdout.write(`${JSON.stringify({ windows, ratio })}\n`);
} finally {
  run?.signal("SIGINT");
  await run?.ended;
  rmSync(directory, { recursive: true, force: true });
}
