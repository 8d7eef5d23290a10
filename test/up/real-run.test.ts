import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  closeSync,
  cpSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { readRecords } from "../../coordinator/records/term-files.ts";
import { writeSynthetic } from "../../deploy/data/synthetic.ts";
import { Probe } from "../../deploy/up/probe.ts";
import { listen, type News } from "../../shared/broadcast/listener.ts";
import { recipeHash } from "../../shared/config/canonical.ts";
import type { Config } from "../../shared/config/schema.ts";
import { METRICS } from "../../shared/metrics/registry.ts";
import { bitsOf, linesOf, parseLines, readJson, summaryOf } from "./runs.ts";
import { lives, lockstep, processesOf, type Scratch, scratch, until } from "./support.ts";

/** Real processes on a small generated set: 240 images of 48 x 48, 15 steps an epoch. */
const EPOCHS = 3;
const STEPS = EPOCHS * 15;

let place: Scratch;
let data: string;
beforeAll(async () => {
  place = scratch();
  data = join(place.path, "data");
  await writeSynthetic(data, { train: 240, test: 60, classes: 10, side: 48, seed: 3 });
});
afterAll(() => place[Symbol.dispose]());

const up = (out: string, ...more: string[]) =>
  lockstep(["up", "--workers", "2", "--data", data, "--epochs", String(EPOCHS), "--out", out, ...more]);
const recorded = (out: string) =>
  existsSync(join(out, "steps.ndjson")) ? readFileSync(join(out, "steps.ndjson"), "utf8").split("\n").length - 1 : 0;

/** What one undisturbed run leaves, against which the disturbed ones are held. */
let undisturbed: Record<string, unknown>;

describe("up, with real processes", () => {
  it("trains, broadcasts, measures, evaluates, and leaves a run directory and no process", async () => {
    const out = join(place.path, "plain");
    const run = up(out, "--json");
    await until(() => existsSync(join(out, "endpoints.json")));
    const { nats, http } = readJson(out, "endpoints.json") as { nats: string; http: string };
    const { runId } = readJson(out, "config.json") as { runId: string };
    const heard: News[] = [];
    const deaf = new AbortController();
    const listening = (async () => {
      for await (const news of listen({ url: nats, run: runId, signal: deaf.signal })) heard.push(news);
    })();
    await until(() => recorded(out) > 10);
    const status = lockstep(["status", out, "--json"]);
    expect((await status.ended).code).toBe(0);
    const { workers } = JSON.parse(status.out()) as { workers: { httpAddress: string; name: string }[] };
    const pages = await Promise.all([http, ...workers.map(({ httpAddress }) => httpAddress)].map(scrape));

    expect((await run.ended).code, run.err()).toBe(0);
    deaf.abort();
    await listening;
    expect(processesOf(out)).toEqual([]);

    const lines = parseLines(run.out());
    const steps = lines.filter(({ type }) => type === "step");
    expect(steps.map(({ step }) => step)).toEqual(Array.from({ length: STEPS }, (_, i) => i));
    const summary = lines.at(-1)!;
    expect(summary).toMatchObject({ type: "summary", outcome: "done", steps: STEPS, epochs: EPOCHS, workers: 2 });
    expect(summary).toMatchObject({ samplesPerEpochExact: true, testImages: 60 });
    expect(summaryOf(out)).toEqual({ ...summary, type: undefined });
    const { top1, top1Low, top1High, top5 } = summary.accuracy as Record<string, number>;
    expect(0 <= top1Low! && top1Low! < top1! && top1! < top1High! && top1High! <= 1 && top1! <= top5!).toBe(true);
    for (const file of ["report/report.html", "report/report.json", "model/model.json", "model/model.safetensors"]) {
      expect(existsSync(join(out, file)), file).toBe(true);
    }
    expect(run.err()).toContain("Writing model and report.");
    undisturbed = summary;

    // Every step after the listener came was heard once, the last ones and the last epoch as well.
    const told = heard.filter(({ kind }) => kind === "step").map(({ message }) => (message as { step: number }).step);
    expect(told).toEqual(Array.from({ length: told.length }, (_, i) => STEPS - told.length + i));
    expect(told.length).toBeGreaterThan(STEPS / 2);
    expect(heard.findLast(({ kind }) => kind === "epoch")?.message).toMatchObject({ epoch: EPOCHS - 1, images: 240 });
    expect(new Set(heard.flatMap((news) => (news.kind === "worker" ? [news.message.name] : [])))).toEqual(
      new Set(["worker-0", "worker-1"]),
    );

    expect(workers.map(({ name }) => name).sort()).toEqual(["worker-0", "worker-1"]);
    const [coordinator, ...others] = pages;
    for (const [name, { part }] of Object.entries(METRICS)) {
      if (part !== "worker") expect(coordinator, name).toContain(`# TYPE ${name} `);
      if (part !== "coordinator") for (const page of others) expect(page, name).toContain(`# TYPE ${name} `);
    }
    expect(coordinator).toMatch(/^lockstep_members\{state="computing"\} [12]$/m);
    expect(coordinator).toMatch(/^lockstep_steps_total\{outcome="applied"\} [1-9]\d*$/m);
    for (const page of others)
      expect(page).toMatch(/^lockstep_exchange_bytes_total\{direction="received"\} [1-9]\d*$/m);
  });

  it("interrupted, stops with a checkpoint, exit code 130 and the line that resumes it; the end has the same bits", async () => {
    const out = join(place.path, "interrupted");
    const run = up(out);
    await until(() => recorded(out) > 12);
    run.signal("SIGINT");
    expect((await run.ended).code, run.err()).toBe(130);
    expect(run.out()).toContain(`npx lockstep resume `);
    expect(summaryOf(out)).toMatchObject({ outcome: "stopped" });
    expect(processesOf(out)).toEqual([]);

    cpSync(out, join(place.path, "stopped"), { recursive: true });
    const resumed = lockstep(["resume", out, "--workers", "3"]);
    expect((await resumed.ended).code, resumed.err()).toBe(0);
    expect(resumed.err()).toContain("88.9 % of ideal speed");
    expect(bitsOf(summaryOf(out))).toEqual(bitsOf(undisturbed));
    const again = lockstep(["resume", out]);
    expect((await again.ended).code).toBe(2);
    expect(again.err()).toContain("LS_RUN_FINISHED");
  });

  it("resumed under another recipe is refused by name, or forks: the same recipe keeps the weights, another one does not", async () => {
    const stopped = join(place.path, "stopped");
    const { runId, recipe } = readJson(stopped, "config.json") as unknown as Config;
    const refused = lockstep(["resume", stopped, "--lr", "0.2", "--workers", "1"]);
    expect((await refused.ended).code).toBe(2);
    expect(refused.err()).toMatch(
      /^The recipe of this run is another one: learningRates\[0\] .* --fork\. \[LS_RECIPE_CHANGED\]\n$/,
    );

    const at = summaryOf(stopped) as { steps: number; lineage: string; stateSha256: string };
    const parent = { run: runId, step: at.steps, lineage: at.lineage };
    const same = join(place.path, "same");
    const fork = lockstep(["resume", stopped, "--fork", "--out", same, "--workers", "1", "--no-eval", "--no-nats"]);
    expect((await fork.ended).code, fork.err()).toBe(0);
    expect(fork.err()).toContain(`Forked from run ${runId} at step ${at.steps}`);
    const summary = summaryOf(same);
    expect(summary).toMatchObject({ parent, steps: STEPS, samplesPerEpochExact: true });
    expect(readJson(same, "config.json")).toMatchObject({ parent, recipe: JSON.parse(JSON.stringify(recipe)) });
    expect(summary.run).not.toBe(runId);
    // Nothing that touches bits differs, and yet it is another line.
    const { weightsSha256, stateSha256, lineage } = undisturbed;
    expect(summary).toMatchObject({ weightsSha256, stateSha256 });
    expect(summary.lineage).not.toBe(lineage);
    const records = [...readRecords(join(same, "records"))];
    const state = readJson(stopped, "checkpoints", "manifest.json") as unknown as { tip: { stateHash: string } }[];
    const position = Buffer.alloc(8);
    position.writeBigUInt64LE(BigInt(at.steps));
    const root = createHash("sha256").update("lockstep-fork-1").update(at.lineage, "hex").update(position);
    root.update(recipeHash(recipe), "hex").update(recipe.data.sha256, "hex").update(state.at(-1)!.tip.stateHash, "hex");
    expect(records.find(({ kind }) => kind === "truncate")).toMatchObject({ tip: { lineage: root.digest("hex") } });

    const other = join(place.path, "other");
    const file = join(place.path, "changes.json");
    writeFileSync(file, JSON.stringify({ lr: 0.2, steps: at.steps + 2 }));
    const changed = lockstep(["resume", stopped, "--fork", "--config", file, "--out", other, "--no-eval", "--no-nats"]);
    expect((await changed.ended).code, changed.err()).toBe(0);
    expect(summaryOf(other)).toMatchObject({ parent, steps: at.steps + 2 });
    expect(linesOf(other, "steps.ndjson").map(({ step }) => step)).toEqual([at.steps, at.steps + 1]);
    for (const [args, code] of [
      [["--steps", String(at.steps)], "LS_FORK_END"],
      [["--model", "resnet"], "LS_FORK_FORM"],
    ] as const) {
      const impossible = lockstep(["resume", stopped, "--fork", ...args]);
      expect((await impossible.ended).code).toBe(2);
      expect(impossible.err()).toContain(code);
    }
  });

  it("outlives a killed worker and a killed coordinator; killed itself, it leaves nothing, and the end has the same bits", async () => {
    const out = join(place.path, "killed");
    const run = up(out, "--no-eval", "--no-nats");
    // Nothing is broadcast either: training does not notice.
    await until(() => recorded(out) > 5);
    // A compute thread that fails takes its process along, which is started again.
    expect(await inject(out, "worker-0", "exception@forward")).toContain("worker-0");
    await until(() =>
      run.err().includes("worker-0 died (exit code 1: The compute thread failed: an injected exception"),
    );
    process.kill(processesOf(out, "--name\0worker-1")[0]!, "SIGKILL");
    await until(() => run.err().includes("worker-1 died (signal SIGKILL)"));
    const before = recorded(out);
    await until(() => recorded(out) > before);
    process.kill(processesOf(out, "coordinator/main.js")[0]!, "SIGKILL");
    await until(() => run.err().includes("coordinator died (signal SIGKILL)"));
    await until(() => recorded(out) > before + 5);
    const pids = processesOf(out).filter((pid) => pid !== run.pid);
    run.signal("SIGKILL");
    await until(() => pids.every((pid) => !lives(pid)));

    const resumed = lockstep(["resume", out]);
    expect((await resumed.ended).code, resumed.err()).toBe(0);
    const summary = summaryOf(out);
    expect(bitsOf(summary)).toEqual(bitsOf(undisturbed));
    expect(readJson(out, "config.json")).toMatchObject({ place: { nats: expect.stringContaining("127.0.0.1") } });
    expect(summary).toMatchObject({ accuracy: null, samplesPerEpochExact: true });
  });
});

describe("up on a disk that fills up", () => {
  it("trains on without checkpoints, then without records, also with a new coordinator; with room the end has the same bits", async ({
    skip,
  }) => {
    const disk = join(place.path, "disk");
    mkdirSync(disk);
    // Room for two checkpoints of 9 MB, not for a third one.
    const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", "size=20m", "tmpfs", disk]);
    // Also where the test is given up: the file system must not stay.
    onTestFinished(() => void spawnSync("umount", ["-l", disk]));
    if (mounted.status !== 0)
      return skip(`a small file system cannot be mounted here: ${mounted.stderr ?? "no mount"}`);
    const settings = join(place.path, "often.json");
    writeFileSync(settings, JSON.stringify({ place: { checkpoint: { everySteps: 4, keep: 2 } } }));
    const out = join(disk, "run");
    const run = up(out, "--no-eval", "--no-nats", "--config", settings);
    await until(() => /checkpoint of step \d+ failed: .*ENOSPC.* \[LS_CHECKPOINT_WRITE\]/.test(run.err()));
    const { http } = readJson(out, "endpoints.json") as { http: string };
    expect(await scrape(http)).toMatch(/^lockstep_checkpoints_total\{outcome="failed"\} [1-9]/m);
    const at = recorded(out);
    await until(() => recorded(out) > at + 2);
    // Now nothing at all can be written any more.
    const filler = openSync(join(disk, "filler"), "w");
    await until(() => {
      // Again and again: a checkpoint that fails gives back what it took.
      fill(filler);
      return run.err().includes("The disk is full: the run waits for room for its records.");
    });
    process.kill(processesOf(out, "coordinator/main.js")[0]!, "SIGKILL");
    await until(() => run.err().includes("coordinator died (signal SIGKILL)"));
    const told = run.err().length;
    fill(filler);
    await until(() => processesOf(out, "coordinator/main.js").length > 0);
    closeSync(filler);
    rmSync(join(disk, "filler"));
    expect(spawnSync("mount", ["-o", "remount,size=100m", disk]).status).toBe(0);
    expect((await run.ended).code, run.err()).toBe(0);
    expect(run.err().slice(told)).not.toContain("gave up");
    const failed = linesOf(out, "events.ndjson").filter(({ state }) => state === "failed");
    expect(failed[0]).toMatchObject({ type: "checkpoint", detail: expect.stringContaining("ENOSPC") });
    expect(bitsOf(summaryOf(out))).toEqual(bitsOf(undisturbed));
    expect(readdirSync(join(out, "checkpoints")).filter((name) => name.endsWith(".partial"))).toEqual([]);
  });
});

/** Writes until there is no room left. */
function fill(descriptor: number): void {
  for (const size of [1 << 20, 4096]) {
    try {
      for (;;) writeSync(descriptor, Buffer.alloc(size));
    } catch (error) {
      expect(error).toMatchObject({ code: "ENOSPC" });
    }
  }
}

describe("up, asked for what cannot be", () => {
  it.each([
    [["--epochs", "1", "--steps", "5"], 2, "--epochs and --steps exclude each other"],
    [["--workers", "none"], 2, "--workers must be a whole number"],
    [["--listen", "0.0.0.0", "--advertise", "0.0.0.0"], 2, "LS_ADVERTISE"],
    [["--listen", "0.0.0.0", "--ports", "90000"], 2, "--ports must be"],
    [["--tls-ca", "ca.pem"], 2, "belong together"],
    [["--nats", "nats://10.0.0.1:4222"], 2, "LS_NOT_LOOPBACK"],
    [["--nats", "somewhere"], 2, "--nats must be an address"],
    [["--continue", "--folds"], 2, "--continue and --folds exclude each other"],
    [["--share", "elsewhere"], 2, "--share is for runs that are secured"],
    [["--http", "nobody:0"], 2, "--http's ports must be a port or a range"],
    [["--http", "0.0.0.0"], 2, "--http beyond this machine is for runs that are secured"],
    [["--monitoring", "--http", "0.0.0.0"], 2, "--monitoring asks pages of this machine alone"],
    [["--devices", "fast"], 2, "--devices must be cpu, cpu:N for N processes, all, or indexes of GPUs"],
    [["--model", "none"], 2, "LS_MODEL_UNKNOWN"],
    [["--frobnicate"], 2, "unknown option"],
  ] as const)("%j exits with code %d in one sentence", async (args, code, words) => {
    const out = join(place.path, `wrong-${args.join("-").replaceAll("/", "_")}`);
    const run = lockstep(["up", "--data", data, "--out", out, ...args]);
    expect((await run.ended).code).toBe(code);
    expect(run.err()).toContain(words);
    expect(run.err().trim().split("\n").length).toBeLessThanOrEqual(2);
    expect(run.err()).not.toMatch(/^ {4}at /m);
    expect(existsSync(join(out, "config.json"))).toBe(false);
  });

  it.each([
    ["10.0.0.1:7000", "LS_NOT_LOOPBACK"],
    ["lockstep://10.0.0.1:7000/ls1-half", "LS_JOIN_LINK"],
    ["lockstep://10.0.0.1:7000", "LS_JOIN_LINK"],
  ])("a worker that would join %s beyond this machine without a token is refused", async (target, code) => {
    const run = lockstep(["worker", "--join", target]);
    expect((await run.ended).code).toBe(2);
    expect(run.err()).toContain(code);
  });
});

async function inject(out: string, target: string, fault: string): Promise<string> {
  const probe = Probe.ofDirectory(out, null);
  return probe.inject(target, fault).finally(() => probe.close());
}

async function scrape(address: string): Promise<string> {
  return (await fetch(`http://${address}/metrics`)).text();
}
