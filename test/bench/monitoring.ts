import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { EventFile } from "../../coordinator/tensorboard/event-file.ts";
import { writeSynthetic } from "../../deploy/data/synthetic.ts";
import { onPath } from "../../deploy/up/nats-program.ts";
import { readEndpoints } from "../../deploy/up/probe.ts";
import type { Recipe } from "../../shared/config/schema.ts";
import { spreadOf } from "../../worker/bench/spread.ts";
import { entryOf } from "../broadcast/support.ts";
import { linesOf } from "../up/runs.ts";
import { lockstep } from "../up/support.ts";
import { childSeconds } from "./monitoring/child-seconds.ts";
import { readPage } from "./monitoring/read-page.ts";
import { timesOf } from "./monitoring/windows.ts";

/**
 * What watching costs: runs of the same recipe in turns, with nothing that can be left out, and with everything.
 *
 *     npm run bench:monitoring -- [--rounds 5] [--steps 160] [--skip 30] [--batch 64] [--workers 2] [--model alexnet] [--data DIR] [--json]
 *
 * Everything: Prometheus with the shipped rules, as `up --monitoring` starts it; nats-server with broadcasts of all
 * processes and a consumer; a reader of the live page, which asks as the page does. Records, steps.ndjson, events.ndjson and the
 * event file for TensorBoard are part of every run; the event file's cost is measured by itself. Throughput is that of the
 * steps after the first `--skip` ones: what starting Prometheus, nats-server and the consumer costs once is in the processor
 * time alone.
 */
const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "5" },
    steps: { type: "string", default: "160" },
    skip: { type: "string", default: "30" },
    batch: { type: "string", default: "64" },
    workers: { type: "string", default: "2" },
    model: { type: "string", default: "alexnet" },
    data: { type: "string" },
    json: { type: "boolean", default: false },
  },
});

interface Measured {
  readonly imagesPerSecond: number;
  /** Processor time of all processes of the run, clients included. */
  readonly cpuSeconds: number;
}

const directory = mkdtempSync(join(tmpdir(), "lockstep-monitoring-"));
const say = (text: string) => void (values.json ? process.stderr : process.stdout).write(`${text}\n`);
let runs = 0;

async function train(data: string, everything: boolean): Promise<Measured> {
  const out = join(directory, `run-${++runs}`);
  const before = childSeconds();
  const args = ["--workers", values.workers, "--model", values.model, "--data", data, "--out", out, "--no-eval"];
  const more = ["--steps", values.steps, "--batch", values.batch, "--seed", "1"];
  const run = lockstep(["up", ...args, ...more, everything ? "--monitoring" : "--no-nats"]);
  const over = new AbortController();
  const watching = everything ? watchAll(out, over.signal) : null;
  const { code } = await run.ended;
  over.abort();
  await watching;
  if (code !== 0) throw new Error(`a run ended with ${code}: ${run.err()}`);
  const imagesPerSecond = speedIn(out);
  rmSync(out, { recursive: true, force: true });
  return { imagesPerSecond, cpuSeconds: childSeconds() - before };
}

function speedIn(out: string): number {
  const times = timesOf(linesOf<{ readonly time: string }>(out, "steps.ndjson")).slice(Number(values.skip));
  return (1000 * (times.length - 1) * Number(values.batch)) / (times.at(-1)! - times[0]!);
}

/** A consumer of the broadcasts and a reader of the live page, from the coordinator's first moment on. */
async function watchAll(out: string, signal: AbortSignal): Promise<void> {
  let http: string | undefined;
  while (!signal.aborted && http === undefined) {
    http = readEndpoints(out)?.http;
    await sleep(50);
  }
  if (http === undefined) return;
  const consumer = lockstep(["watch", out, "--json"]);
  for (let second = 0; !signal.aborted; second++) {
    await readPage(http, second);
    await sleep(1000, null, { signal }).catch(() => {});
  }
  consumer.signal("SIGTERM");
  await consumer.ended;
}

/** Microseconds of the coordinator for one step in the event file. */
async function eventFileMicros(): Promise<number> {
  const STEPS = 20_000;
  const recipe = { learningRates: Array.from({ length: STEPS }, () => 0.1) } as unknown as Recipe;
  const file = new EventFile(join(directory, "tensorboard"), recipe, 1, Date.now());
  const started = process.cpuUsage();
  for (let step = 0; step < STEPS; step++) {
    file.final(entryOf(step), 1000 + step);
    // What is written waits in a bounded queue.
    if (step % 200 === 0) await sleep(1);
  }
  await file.close();
  const { user, system } = process.cpuUsage(started);
  return (user + system) / STEPS;
}

if (onPath("prometheus") === null) {
  say("Prometheus is not installed: apt install prometheus.");
  process.exit(3);
}
const data = values.data ?? join(directory, "data");
if (values.data === undefined) await writeSynthetic(data, { train: 1000, test: 20, classes: 10, side: 96, seed: 1 });
const [off, on]: [Measured[], Measured[]] = [[], []];
try {
  const rounds = Number(values.rounds);
  const all = `two in turns, ${rounds} times: ${values.steps} steps of ${values.batch} images, ${values.skip} of them not timed, ${values.model}, ${values.workers} workers`;
  say(`${all}\n`);
  say("| round | everything off, images/s | everything on, images/s | on / off | CPU s off | CPU s on |");
  say("|---:|---:|---:|---:|---:|---:|");
  for (let round = 0; round < rounds; round++) {
    // Whoever comes second finds a warmer machine: the order alternates.
    for (const everything of round % 2 === 0 ? [false, true] : [true, false])
      (everything ? on : off).push(await train(data, everything));
    const [a, b] = [off.at(-1)!, on.at(-1)!];
    say(`| ${round + 1} ${row(a, b)}`);
  }
  const middle = (of: readonly Measured[]): Measured => ({
    imagesPerSecond: spreadOf(of.map(({ imagesPerSecond }) => imagesPerSecond)).median,
    cpuSeconds: spreadOf(of.map(({ cpuSeconds }) => cpuSeconds)).median,
  });
  const [a, b] = [middle(off), middle(on)];
  const ratio = spreadOf(off.map((one, i) => on[i]!.imagesPerSecond / one.imagesPerSecond));
  say(`| **median** ${row(a, b)}`);
  const micros = await eventFileMicros();
  say(
    `\nmedian of on / off, round by round: ${ratio.median.toFixed(3)} (${ratio.first.toFixed(3)} to ${ratio.third.toFixed(3)})`,
  );
  say(`event file for TensorBoard, in both: ${micros.toFixed(0)} microseconds of the coordinator for a step`);
  if (values.json) process.stdout.write(`${JSON.stringify({ off, on, ratio, eventFileMicros: micros })}\n`);
} finally {
  rmSync(directory, { recursive: true, force: true });
}

function row(a: Measured, b: Measured): string {
  const ratio = (b.imagesPerSecond / a.imagesPerSecond).toFixed(3);
  const speeds = `${a.imagesPerSecond.toFixed(1)} | ${b.imagesPerSecond.toFixed(1)} | ${ratio}`;
  return `| ${speeds} | ${a.cpuSeconds.toFixed(1)} | ${b.cpuSeconds.toFixed(1)} |`;
}
