import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { LineTail } from "../../deploy/up/line-tail.ts";
import { Cluster } from "./cluster.ts";
import { type Growth, growthsOf, type Sample } from "./memory/slopes.ts";

/**
 * Measures whether any process of a cluster grows while it trains and its view changes again and again:
 *
 *     npm run bench:memory -- [--steps 2000] [--changes 50] [--json]
 *
 * The tensors of alexnet on small images; two workers stay, a third comes, and leaves or is killed in turn.
 */
const { values } = parseArgs({
  options: {
    steps: { type: "string", default: "2000" },
    changes: { type: "string", default: "50" },
    json: { type: "boolean", default: false },
  },
});
const steps = Number(values.steps);
/** A worker that comes and goes changes the view three times: joins, gets shards, is gone. */
const comings = Math.ceil(Number(values.changes) / 3);
/** Each takes a second, in which the threads collect their garbage. */
const SAMPLES = 40;
const WAIT = 15_000;
/** Small images: what a process holds does not depend on them, and steps are fast. */
const SIDE = 16;

interface Threads {
  readonly resident: number;
  readonly threads: readonly { readonly thread: number; readonly heap: number; readonly external: number }[];
}

async function measure(cluster: Cluster, folder: string): Promise<Map<string, Sample[]>> {
  const found = new Map<string, Sample[]>();
  const watched = [
    { name: "coordinator", pid: cluster.coordinator.pid! },
    ...cluster.members.map(({ name, child }) => ({ name, pid: child.pid! })),
  ];
  const first = cluster.step;
  const disturbing = disturb(cluster, first);
  for (let i = 0; i <= SAMPLES; i++) {
    const goal = first + Math.round((steps * i) / SAMPLES);
    if (cluster.step < goal) await cluster.steps(goal - cluster.step);
    const step = cluster.step - first;
    const answers = await Promise.all(watched.map(({ pid }) => ask(pid, join(folder, `${pid}.ndjson`), i + 1)));
    for (const [at, answer] of answers.entries()) {
      const { name } = watched[at]!;
      if (answer !== null) found.set(name, [...(found.get(name) ?? []), { step, ...answer }]);
    }
    process.stderr.write(`step ${step} of ${steps}\n`);
  }
  await disturbing;
  return found;
}

async function disturb(cluster: Cluster, first: number): Promise<void> {
  for (let i = 0; i < comings; i++) {
    const goal = first + Math.round((steps * i) / comings);
    if (cluster.step < goal) await cluster.steps(goal - cluster.step);
    const member = cluster.startWorker();
    await cluster.computes(member);
    await cluster.steps(5);
    member.child.signal(i % 2 === 0 ? "SIGTERM" : "SIGKILL");
    await member.child.ended;
  }
}

/** What a process holds now; null where it did not answer. */
async function ask(pid: number, file: string, count: number): Promise<Omit<Sample, "step"> | null> {
  process.kill(pid, "SIGUSR2");
  const deadline = performance.now() + WAIT;
  for (;;) {
    await sleep(100);
    const answer = new LineTail(file).read()[count - 1];
    if (answer !== undefined) return sampleOf(answer as unknown as Threads);
    if (performance.now() > deadline) return null;
  }
}

function sampleOf({ resident, threads }: Threads): Omit<Sample, "step"> {
  const [main, compute] = [0, 1].map((thread) => threads.find((other) => other.thread === thread));
  return { resident, main: main?.heap ?? 0, buffers: main?.external ?? 0, compute: compute?.heap ?? null };
}

function show(growths: readonly Growth[]): string {
  const megabytes = (bytes: number) => (bytes / 1e6).toFixed(1);
  const lines = growths.map(({ process, what, half, end, slope }) =>
    [process, what, megabytes(half), megabytes(end), Math.round(slope)].join(" | "),
  );
  const head = ["process | memory | MB at half | MB at the end | bytes a step, second half", "---|---|---:|---:|---:"];
  return [...head, ...lines].map((line) => `| ${line} |`).join("\n");
}

const directory = mkdtempSync(join(tmpdir(), "lockstep-memory-"));
const folder = join(directory, "heaps");
mkdirSync(folder);
const cluster = await Cluster.start({
  directory,
  model: { name: "alexnet", options: {}, statisticsMomentum: 0.9 },
  batch: 16,
  side: SIDE,
  images: 320,
  workers: 2,
  checkpointEvery: 100,
  node: ["--import", fileURLToPath(new URL("./memory/heap-probe.mjs", import.meta.url))],
  env: { LOCKSTEP_HEAP_FOLDER: folder },
});
try {
  const found = await measure(cluster, folder);
  const growths = [...found].flatMap(([name, samples]) => growthsOf(name, samples));
  const views = cluster.history().events.filter(({ type }) => type === "view").length;
  if (values.json) for (const growth of growths) process.stdout.write(`${JSON.stringify(growth)}\n`);
  else
    process.stdout.write(
      `${show(growths)}\nalexnet, 1.1 M parameters, 16 images of ${SIDE} x ${SIDE} a step; ${steps} steps, ${views} views\n`,
    );
} finally {
  await cluster.stop();
  rmSync(directory, { recursive: true, force: true });
}
