import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { loadavg } from "node:os";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { MeasuredRuns, stepMillis } from "../../deploy/bench/measured-run.ts";
import { benchAllreduce } from "../../worker/bench/allreduce.ts";
import { spreadOf } from "../../worker/bench/spread.ts";

/**
 * Lockstep beside PyTorch (DistributedDataParallel over Gloo), in turns on this machine: see peers/README.md.
 *
 *     npm run bench:peers -- [--only one|two|allreduce] [--model LIST] [--precision LIST] [--tries N] [--steps N]
 */
const { values } = parseArgs({
  options: {
    only: { type: "string", default: "one,two,allreduce" },
    model: { type: "string", default: "resnet18,alexnet" },
    precision: { type: "string", default: "float32,bf16" },
    processes: { type: "string", default: "2,4" },
    tries: { type: "string", default: "5" },
    steps: { type: "string", default: "4" },
    python: { type: "string", default: process.env.LOCKSTEP_PEERS_PYTHON ?? "/tmp/lockstep-peers/bin/python" },
  },
});
const BATCH = 128;
const SHARDS = 8;
const WARM_UP = 3;
const tries = Number(values.tries);
const steps = Number(values.steps);

interface PeerResult {
  readonly stepMillis: number;
  readonly exposedMillis?: number;
  readonly cut?: number;
  readonly torch: string;
}

// Built code lies under dist/, the programs beside their sources.
const program = [
  new URL("peers/peer.py", import.meta.url),
  new URL("../../../test/bench/peers/peer.py", import.meta.url),
]
  .map((url) => fileURLToPath(url))
  .find((path) => existsSync(path))!;

/** An interrupted comparison leaves no peer behind: each has a process group of its own. */
let group: number | undefined;
for (const signal of ["SIGINT", "SIGTERM"] as const)
  process.once(signal, () => {
    if (group !== undefined) process.kill(-group, "SIGKILL");
    process.exit(130);
  });

async function peer(what: string, options: Record<string, string | number>): Promise<PeerResult> {
  const given = Object.entries(options).flatMap(([name, value]) => [`--${name}`, String(value)]);
  const env = { ...process.env, OMP_NUM_THREADS: "1" };
  const child = spawn(values.python, [program, what, ...given], {
    env,
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
  });
  group = child.pid;
  let [out, said] = ["", ""];
  child.stdout.on("data", (text) => {
    out += text;
  });
  child.stderr.on("data", (text) => {
    said = (said + text).slice(-600);
  });
  const code = await new Promise((resolve, reject) => child.once("error", reject).once("close", resolve));
  group = undefined;
  if (code !== 0) throw new Error(`The peer ended with exit code ${code}: ${said}`);
  return JSON.parse(out.trim().split("\n").at(-1)!) as PeerResult;
}

const say = (...cells: (string | number)[]) => process.stdout.write(`| ${cells.join(" | ")} |\n`);
const medians = (list: readonly number[], digits: number) => {
  const { median, first, third } = spreadOf(list);
  return `${median.toFixed(digits)} (${first.toFixed(digits)} to ${third.toFixed(digits)})`;
};
const rate = (millis: number) => (BATCH / millis) * 1000;

async function training(runs: MeasuredRuns, workers: number, model: string, precision: "float32" | "bf16") {
  const ours: number[] = [];
  const theirs: PeerResult[] = [];
  const exposed: number[] = [];
  const run = async (...more: string[]) => {
    const shape = { model, precision, batch: BATCH, shards: SHARDS, workers, steps: WARM_UP + steps + 1, more };
    return stepMillis((await runs.run(shape)).steps, WARM_UP);
  };
  for (let i = 0; i < tries; i++) {
    theirs.push(await peer("train", { model, precision, batch: BATCH, processes: workers, steps }));
    ours.push(await run());
    if (workers > 1) exposed.push(ours.at(-1)! - (await run("--exchange", "none")));
  }
  const times = theirs.map((result) => result.stepMillis);
  const hidden = (list: readonly number[]) => (workers > 1 ? medians(list, 0) : "");
  const cut = `${theirs.at(-1)!.cut} images`;
  const ratio = medians(
    ours.map((millis, i) => times[i]! / millis),
    2,
  );
  const rates = [medians(times.map(rate), 1), medians(ours.map(rate), 1)];
  say(
    model,
    precision,
    workers,
    ...rates,
    ratio,
    hidden(theirs.map((t) => t.exposedMillis ?? 0)),
    hidden(exposed),
    cut,
  );
}

async function allreduce(processes: number, megabytes: number) {
  const member = fileURLToPath(new URL("../../worker/bench/allreduce-main.js", import.meta.url));
  const [ours, theirs, limits]: [number[], number[], number[]] = [[], [], []];
  for (let i = 0; i < tries; i++) {
    theirs.push((await peer("allreduce", { megabytes, processes, steps: 20 })).stepMillis);
    const figures = await benchAllreduce(member, { members: processes, megabytes, wire: "float32", tries: 20 });
    ours.push(figures.millis.median);
    limits.push(figures.bareMillis.median);
  }
  const times = [medians(theirs, 1), medians(ours, 1), medians(limits, 1)];
  const ratios = [ours, limits].map((list) =>
    medians(
      list.map((millis, k) => theirs[k]! / millis),
      2,
    ),
  );
  say(processes, megabytes, ...times, ...ratios);
}

if (!existsSync(values.python)) {
  process.stderr.write(
    `${values.python} is missing. test/bench/peers/README.md says how PyTorch is installed for this.\n`,
  );
  process.exit(3);
}
const wanted = values.only.split(",");
const precisions = values.precision.split(",") as ("float32" | "bf16")[];
const runs = new MeasuredRuns();
try {
  if (wanted.includes("one") || wanted.includes("two")) {
    await runs.prepare(BATCH * (WARM_UP + steps + 2));
    say(
      "model",
      "precision",
      "processes",
      "PyTorch, images/s",
      "Lockstep, images/s",
      "ratio",
      "exposed, ms",
      "Lockstep",
      "cut",
    );
    say("---", "---", "---:", "---:", "---:", "---:", "---:", "---:", "---");
    for (const workers of [wanted.includes("one") ? 1 : 0, wanted.includes("two") ? 2 : 0].filter((n) => n > 0)) {
      for (const model of values.model.split(","))
        for (const precision of precisions) await training(runs, workers, model, precision);
    }
  }
  if (wanted.includes("allreduce")) {
    process.stdout.write("\n");
    say("processes", "MB", "Gloo, ms", "Lockstep, ms", "bare gRPC, ms", "Gloo / Lockstep", "Gloo / bare gRPC");
    say("---:", "---:", "---:", "---:", "---:", "---:", "---:");
    for (const processes of values.processes.split(","))
      for (const size of [1, 4, 44.7]) await allreduce(Number(processes), size);
  }
} finally {
  runs.remove();
}
process.stdout.write(`\nMedians (quartiles) of ${tries}, in turns; load average ${loadavg()[0]!.toFixed(1)}.\n`);
process.exit(0);
