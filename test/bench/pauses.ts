import { mkdtempSync, rmSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { listen } from "../../shared/broadcast/listener.ts";
import type { Settings } from "../../shared/config/settings.ts";
import { Cluster, type ClusterOptions, type Member } from "./cluster.ts";
import type { History } from "./pauses/history.ts";
import {
  checkpointPauses,
  type Heard,
  joinPause,
  leavePause,
  lossPause,
  type Measured,
  type StartLog,
  takeOverPause,
  timeToContribution,
} from "./pauses/measures.ts";
import { type Row, rowOf, tableOf } from "./pauses/table.ts";

/**
 * Measures with real processes on this machine how long training pauses when something happens to it:
 *
 *     npm run bench:pauses -- [--tries 10] [--only faults|changes|checkpoints] [--json]
 */

/** Around each event, so that the normal step on each side is known. */
const CALM_STEPS = 8;

interface Try {
  readonly kind: string;
  readonly member: Member;
  readonly at: number;
}

const ALEXNET: Settings["model"] = { name: "alexnet", options: {}, statisticsMomentum: 0.9 };
const RESNET_18: Settings["model"] = {
  name: "resnet",
  options: { blocks: [2, 2, 2, 2], widths: [64, 128, 256, 512], stemStride: 2 },
  statisticsMomentum: 0.9,
};

const { values } = parseArgs({
  options: {
    tries: { type: "string", default: "10" },
    only: { type: "string", default: "all" },
    json: { type: "boolean", default: false },
    keep: { type: "boolean", default: false },
  },
});
const tries = Number(values.tries);
const say = (text: string) => process.stderr.write(`${text}\n`);

async function withCluster<T>(
  options: Omit<ClusterOptions, "directory">,
  use: (cluster: Cluster) => Promise<T>,
): Promise<T> {
  const directory = mkdtempSync(join(tmpdir(), "lockstep-pauses-"));
  const cluster = await Cluster.start({ ...options, directory });
  try {
    return await use(cluster);
  } finally {
    await cluster.stop();
    if (values.keep) say(`kept: ${directory}`);
    else rmSync(directory, { recursive: true, force: true });
  }
}

const measured = (found: readonly (Measured | null)[]): Measured[] => found.filter((one) => one !== null);

/** Workers that are killed or frozen, and a coordinator that is killed; two workers stay. */
function faults(): Promise<Row[]> {
  const what = { model: "alexnet, 1.1 M parameters", batch: 32, workers: 3 };
  const settings = { model: ALEXNET, batch: 32, side: 96, images: 640, workers: 2, checkpointEvery: null };
  return withCluster({ ...settings, broadcast: true }, async (cluster) => {
    const done: Try[] = [];
    const killedAt: number[] = [];
    const heard: Heard[] = [];
    const deaf = new AbortController();
    const listening = hear(cluster, heard, deaf.signal);
    for (let i = 0; i < tries; i++) {
      for (const [kind, signal] of [["killed", "SIGKILL"] as const, ["frozen", "SIGSTOP"] as const]) {
        say(`try ${i + 1} of ${tries}: ${kind}`);
        const member = cluster.startWorker();
        await cluster.computes(member);
        await cluster.steps(CALM_STEPS);
        await sleep(Math.random() * 500);
        const at = Date.now();
        member.child.signal(signal);
        await cluster.event(`${member.name} lost`, (e) => e.change === "lost" && e.name === member.name, at);
        await cluster.steps(CALM_STEPS);
        await member.child.stop(0);
        done.push({ kind, member, at });
      }
      say(`try ${i + 1} of ${tries}: coordinator killed`);
      const at = Date.now();
      cluster.coordinator.signal("SIGKILL");
      await cluster.event("the next coordinator", (e) => e.type === "phase" && e.phase === "running", at);
      await cluster.steps(CALM_STEPS);
      killedAt.push(at);
    }
    deaf.abort();
    await listening;
    const history = cluster.history();
    const of = (kind: string) =>
      measured(done.filter((t) => t.kind === kind).map(({ at, member }) => lossPause(history, at, member.name)));
    const takeOvers = measured(killedAt.map((at) => takeOverPause(history, near(heard, at), at)));
    return [
      rowOf("worker killed (SIGKILL)", what, of("killed")),
      rowOf("worker frozen (SIGSTOP)", what, of("frozen")),
      ...(cluster.natsUrl === null ? [] : [rowOf("coordinator killed", { ...what, workers: 2 }, takeOvers)]),
    ];
  });
}

/** Heard within half a minute of this time. */
const near = (heard: readonly Heard[], at: number) => heard.filter(({ time }) => Math.abs(time - at) < 15_000);

async function hear(cluster: Cluster, heard: Heard[], signal: AbortSignal): Promise<void> {
  if (cluster.natsUrl === null) return;
  for await (const news of listen({ url: cluster.natsUrl, run: cluster.runId, signal })) {
    if (news.kind === "step") heard.push({ step: news.message.step, time: Date.now() });
  }
}

const LARGE = { model: "resnet-18, 11.2 M parameters, 45 MB", batch: 32, workers: 2 };
const LARGE_SETTINGS = { model: RESNET_18, batch: 32, side: 32, images: 640 };

/** Checkpoints of a model of 45 MB while two workers train undisturbed. */
function checkpoints(): Promise<Row[]> {
  return withCluster({ ...LARGE_SETTINGS, workers: 2, checkpointEvery: 15 }, async (cluster) => {
    let found: Measured[] = [];
    // Those of the start are not among them: a view changes beside them.
    for (let round = 0; found.length < tries && round < 4 * tries; round++) {
      say(`checkpoint ${found.length + 1} of ${tries}`);
      await cluster.steps(15);
      found = checkpointPauses(cluster.history()).slice(0, tries);
    }
    return [rowOf("checkpoint", LARGE, found)];
  });
}

/** Workers that come and go as planned, with a model of 45 MB; one worker stays. */
function changes(): Promise<Row[]> {
  const what = LARGE;
  const settings = { ...LARGE_SETTINGS, workers: 1, checkpointEvery: null };
  return withCluster(settings, async (cluster) => {
    const comings: Member[] = [];
    const goings: Try[] = [];
    for (let i = 0; i < tries; i++) {
      say(`try ${i + 1} of ${tries}: join and leave`);
      const member = cluster.startWorker();
      await cluster.computes(member);
      await cluster.steps(CALM_STEPS + 2);
      const at = Date.now();
      member.child.signal("SIGTERM");
      await member.child.ended;
      await cluster.steps(CALM_STEPS + 2);
      comings.push(member);
      goings.push({ kind: "leave", member, at });
    }
    const history = cluster.history();
    const joins = comings.map(({ name, startedAt }) => joinPause(history, startedAt, name));
    const leaves = goings.map(({ member, at }) => leavePause(history, at, member.name));
    const starts = comings.map((member) => contribution(cluster, history, member));
    return [
      rowOf("planned join", what, measured(joins)),
      rowOf("planned leave", what, measured(leaves)),
      rowOf("start to first contribution", what, measured(starts)),
    ];
  });
}

function contribution(cluster: Cluster, history: History, member: Member): Measured | null {
  const log = cluster.logOf(member);
  const loaded = log.find(({ msg }) => msg === "loaded");
  const dialled = log.find(({ msg }) => msg === "dialled the coordinator");
  if (loaded === undefined || dialled === undefined) return null;
  const { runtime, data, fingerprint } = loaded as unknown as StartLog;
  const start = { dialledAt: Number(dialled.time), runtime, data, fingerprint };
  return timeToContribution(history, member.startedAt, member.name, start);
}

const rows: Row[] = [];
for (const [name, part] of Object.entries({ faults, changes, checkpoints }))
  if (values.only === "all" || values.only === name) rows.push(...(await part()));
for (const { event, tries: found } of rows) {
  if (found < tries) say(`${event}: only ${found} of ${tries} tries could be measured.`);
}
if (values.json) for (const row of rows) process.stdout.write(`${JSON.stringify(row)}\n`);
else
  process.stdout.write(
    `${tableOf(rows)}\n${cpus().length} cores (${cpus()[0]?.model.trim()}), Node ${process.version}\n`,
  );
