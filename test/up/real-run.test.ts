import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { writeSynthetic } from "../../deploy/data/synthetic.ts";
import { listen, type News } from "../../shared/broadcast/listener.ts";
import { METRICS } from "../../shared/metrics/registry.ts";
import { coordinatorClient, type Done, unary } from "../../shared/rpc/clients.ts";
import { type Lockstep, lives, lockstep, processesOf, type Scratch, scratch, until } from "./support.ts";

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

const readJson = (...path: string[]) => JSON.parse(readFileSync(join(...path), "utf8")) as Record<string, unknown>;
const up = (out: string, ...more: string[]) =>
  lockstep(["up", "--workers", "2", "--data", data, "--epochs", String(EPOCHS), "--out", out, ...more]);
const linesOf = (run: Lockstep) =>
  run
    .out()
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);
const recorded = (out: string) =>
  existsSync(join(out, "steps.ndjson")) ? readFileSync(join(out, "steps.ndjson"), "utf8").split("\n").length - 1 : 0;
const bits = ({ weightsSha256, stateSha256, lineage }: Record<string, unknown>) => ({
  weightsSha256,
  stateSha256,
  lineage,
});
const pidOf = (out: string, part: string) =>
  processesOf(out).filter((pid) => readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(part));

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

    const lines = linesOf(run);
    const steps = lines.filter(({ type }) => type === "step");
    expect(steps.map(({ step }) => step)).toEqual(Array.from({ length: STEPS }, (_, i) => i));
    const summary = lines.at(-1)!;
    expect(summary).toMatchObject({ type: "summary", outcome: "done", steps: STEPS, epochs: EPOCHS, workers: 2 });
    expect(summary).toMatchObject({ samplesPerEpochExact: true, testImages: 60 });
    expect(readJson(out, "summary.json")).toEqual({ ...summary, type: undefined });
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
    expect(readJson(out, "summary.json")).toMatchObject({ outcome: "stopped" });
    expect(processesOf(out)).toEqual([]);

    const resumed = lockstep(["resume", out, "--workers", "3"]);
    expect((await resumed.ended).code, resumed.err()).toBe(0);
    expect(resumed.err()).toContain("88.9 % of ideal speed");
    expect(bits(readJson(out, "summary.json"))).toEqual(bits(undisturbed));
    const again = lockstep(["resume", out]);
    expect((await again.ended).code).toBe(2);
    expect(again.err()).toContain("LS_RUN_FINISHED");
  });

  it("outlives a killed worker and a killed coordinator; killed itself, it leaves nothing, and the end has the same bits", async () => {
    const out = join(place.path, "killed");
    const run = up(out, "--no-eval", "--no-nats");
    // Nothing is broadcast either: training does not notice.
    await until(() => recorded(out) > 5);
    // A compute thread that fails takes its process along, which is started again.
    expect(await inject(out, "worker-0", "crash-compute")).toContain("worker-0");
    await until(() =>
      run.err().includes("worker-0 died (exit code 1: The compute thread failed: injected crash of the compute thread"),
    );
    process.kill(pidOf(out, "--name\0worker-1")[0]!, "SIGKILL");
    await until(() => run.err().includes("worker-1 died (signal SIGKILL)"));
    const before = recorded(out);
    await until(() => recorded(out) > before);
    process.kill(pidOf(out, "coordinator/main.js")[0]!, "SIGKILL");
    await until(() => run.err().includes("coordinator died (signal SIGKILL)"));
    await until(() => recorded(out) > before + 5);
    const pids = processesOf(out).filter((pid) => pid !== run.pid);
    run.signal("SIGKILL");
    await until(() => pids.every((pid) => !lives(pid)));

    const resumed = lockstep(["resume", out]);
    expect((await resumed.ended).code, resumed.err()).toBe(0);
    const summary = readJson(out, "summary.json");
    expect(bits(summary)).toEqual(bits(undisturbed));
    expect(readJson(out, "config.json")).toMatchObject({ place: { nats: expect.stringContaining("127.0.0.1") } });
    expect(summary).toMatchObject({ accuracy: null, samplesPerEpochExact: true });
  });
});

describe("up, asked for what cannot be", () => {
  it.each([
    [["--epochs", "1", "--steps", "5"], 2, "--epochs and --steps exclude each other"],
    [["--workers", "none"], 2, "--workers must be a whole number"],
    [["--listen", "0.0.0.0"], 2, "LS_NOT_LOOPBACK"],
    [["--nats", "nats://10.0.0.1:4222"], 2, "LS_NOT_LOOPBACK"],
    [["--nats", "somewhere"], 2, "--nats must be an address"],
    [["--devices", "fast"], 2, "--devices must be cpu or indexes of GPUs"],
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

  it.each(["coordinator", "worker"])("a %s beyond this machine is refused", async (part) => {
    const args =
      part === "worker" ? ["worker", "--join", "10.0.0.1:7000"] : ["coordinator", place.path, "--listen", "0.0.0.0"];
    const run = lockstep(args);
    expect((await run.ended).code).toBe(2);
    expect(run.err()).toContain("LS_NOT_LOOPBACK");
  });
});

async function inject(out: string, target: string, detail: string): Promise<string> {
  const client = coordinatorClient(String(readJson(out, "endpoints.json").coordinator));
  const done = await unary<Done>((callback) => client.control({ action: "inject", target, detail }, {}, callback));
  client.close();
  return done.message;
}

async function scrape(address: string): Promise<string> {
  return (await fetch(`http://${address}/metrics`)).text();
}
