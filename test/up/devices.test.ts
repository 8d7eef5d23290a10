import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { writeSynthetic } from "../../deploy/data/synthetic.ts";
import { chooseDevices, type GpuList, listGpus, parseDevices } from "../../deploy/up/devices.ts";
import { readLines } from "../../shared/data/json-lines.ts";
import { viewReason } from "../../shared/metrics/view-reason.ts";
import { type Gpu, parseGpuList, visibleGpus } from "../../shared/process/nvidia-smi.ts";
import { addonInUse } from "../../worker/compute/native-addon.ts";
import { linesOf, SMALL_SET, train } from "./runs.ts";
import { lives, lockstep, processesOf, programFile, type Scratch, scratch, until } from "./support.ts";

/** As a driver of 2024 answers for two cards. */
const TABLE = [
  "0, GPU-8f3c6c1e-0000-1111-2222-333344445555, 550.54.15, 81559, NVIDIA H100 80GB HBM3",
  "1, GPU-91aa00ff-0000-1111-2222-333344445555, 550.54.15, [N/A], NVIDIA H100 80GB HBM3",
  "",
].join("\n");

describe("devices", () => {
  const two: GpuList = { gpus: parseGpuList(TABLE) };
  const notes: string[] = [];
  const note = (text: string) => void notes.push(text);
  const choose = (text: string, list: GpuList = two, hasLibrary = true) =>
    chooseDevices(parseDevices(text), { list: () => list, hasLibrary: () => hasLibrary, note });

  it("are the CPU, once or several times, all GPUs, or some by index", () => {
    expect([choose("cpu"), choose("cpu:3"), choose("all"), choose("1, 0")]).toEqual([
      ["cpu"],
      ["cpu", "cpu", "cpu"],
      ["0", "1"],
      ["1", "0"],
    ]);
    for (const wrong of ["", "gpu", "cpu,0", "0,,1", "-1", "cpu:0", "cpu:", "00", "1,1", "all,0", "99999"])
      expect(() => choose(wrong), wrong).toThrow("--devices must be");
  });

  it("on the CPU ask no driver", () => {
    const nothing = { list: () => expect.fail(), hasLibrary: () => expect.fail(), note: () => expect.fail() };
    expect(chooseDevices(parseDevices("cpu:2"), nothing)).toEqual(["cpu", "cpu"]);
  });

  it("that are not there are refused with what is", () => {
    expect(() => choose("0,2,7")).toThrow("There is no GPU 2, 7 for this process; there is 0, 1.");
    expect(() => choose("all", { reason: "nvidia-smi is not on PATH" })).toThrow("nvidia-smi is not on PATH.");
  });

  it("without TensorFlow's library for GPUs: all means the CPU, and one sentence says so; a GPU by its index is refused", () => {
    expect(choose("all", two, false)).toEqual(["cpu"]);
    expect(notes).toEqual([expect.stringMatching(/GPU 0, 1.* CPU.*npx lockstep setup --gpu/)]);
    expect(() => choose("1", two, false)).toThrow("library for GPUs is not set up");
    expect(() => choose("2", two, false)).toThrow("There is no GPU 2");
  });

  it("are read from nvidia-smi's table", () => {
    expect(parseGpuList(`${TABLE}No devices were found\nWARNING: a, b\n`)).toEqual([
      {
        index: "0",
        uuid: "GPU-8f3c6c1e-0000-1111-2222-333344445555",
        driver: "550.54.15",
        memory: 85_520_809_984,
        name: "NVIDIA H100 80GB HBM3",
      },
      expect.objectContaining({ index: "1", memory: null }),
    ]);
  });

  it.each([
    [undefined, "0 1"],
    ["1", "1"],
    ["GPU-91aa,0", "1 0"],
    ["0,5,1", "0"],
    ["-1", ""],
    ["", ""],
    ["1,1", "1"],
  ])("under CUDA_VISIBLE_DEVICES=%s are those that CUDA would show", (visible, indexes) => {
    const { gpus } = two as { gpus: Gpu[] };
    expect(
      visibleGpus(gpus, visible)
        .map(({ index }) => index)
        .join(" "),
    ).toBe(indexes);
  });
});

let place: Scratch;
let data: string;
/** Environment with a program that stands for nvidia-smi first on PATH. */
function withDriver(name: string, script: string): Record<string, string> {
  const folder = join(place.path, name);
  mkdirSync(folder);
  writeFileSync(join(folder, "nvidia-smi"), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  return { PATH: `${folder}${delimiter}${process.env.PATH}` };
}
beforeAll(async () => {
  place = scratch();
  data = join(place.path, "data");
  await writeSynthetic(data, SMALL_SET);
});
afterAll(() => place[Symbol.dispose]());

describe("asking the driver", () => {
  it.each([
    ["none", "echo 'No devices were found'; exit 6", "nvidia-smi fails: No devices were found"],
    ["quiet", "exit 0", "nvidia-smi finds no GPU"],
    [
      "broken",
      "echo 'NVIDIA-SMI has failed because it couldn'\"'\"'t reach the driver.' >&2; exit 9",
      "couldn't reach",
    ],
  ])("that says %s gives the reason", (name, script, reason) => {
    expect(listGpus({ ...process.env, ...withDriver(name, script) })).toEqual({
      reason: expect.stringContaining(reason),
    });
  });

  it("that is not there gives the reason; a worker refuses to start with exit code 3", async () => {
    const empty = { PATH: join(place.path, "nothing") };
    expect(listGpus(empty)).toEqual({ reason: "nvidia-smi is not on PATH" });
    const refused = lockstep(["worker", "--join", "127.0.0.1:9", "--devices", "all"], empty);
    expect((await refused.ended).code).toBe(3);
    expect(refused.err()).toMatch(/^nvidia-smi is not on PATH\. .*\[LS_NO_GPU\]\n$/);
  });
});

interface Given {
  readonly name: string;
  readonly pid: number;
  readonly CUDA_VISIBLE_DEVICES: string;
}

describe("worker --devices all, with real processes", () => {
  it("starts one worker for each GPU with that one visible, starts again what is killed, and drains on SIGTERM", async () => {
    const out = join(place.path, "run");
    const logs = join(place.path, "logs");
    const given = join(place.path, "given");
    const driver = withDriver("driver", `printf %s '${TABLE}'`);
    const run = train(data, out, 1, ["--epochs", "2000"]);
    const endpoints = join(out, "endpoints.json");
    await until(() => existsSync(endpoints));
    const LOCKSTEP_GPU_ADDON = addonInUse();
    const preload = { LOCKSTEP_GPU_ADDON, NODE_OPTIONS: `--import=${programFile("on-cpu.mjs")}`, GIVEN: given };
    const group = lockstep(["worker", "--join", endpoints, "--devices", "all", "--name", "host", "--logs", logs], {
      ...driver,
      ...preload,
    });
    const starts = () => (existsSync(given) ? linesOf<Given>(given) : []);
    const views = () => readLines(join(out, "events.ndjson")).filter(({ type }) => type === "view");
    const members = () => Object.keys((views().at(-1)?.shards as object | undefined) ?? {}).length;
    await until(() => members() === 3);
    const once = { CUDA_DEVICE_ORDER: "PCI_BUS_ID", TF_FORCE_GPU_ALLOW_GROWTH: "true", TF_DETERMINISTIC_OPS: "1" };
    expect(starts().sort((a, b) => (a.name < b.name ? -1 : 1))).toEqual([
      { name: "host-gpu0", pid: expect.any(Number), CUDA_VISIBLE_DEVICES: "0", ...once },
      { name: "host-gpu1", pid: expect.any(Number), CUDA_VISIBLE_DEVICES: "1", ...once },
    ]);

    process.kill(starts().find(({ name }) => name === "host-gpu1")!.pid, "SIGKILL");
    await until(() => starts().length === 3);
    expect(group.err()).toContain("host-gpu1 died (signal SIGKILL); starting it again in 1.0 s");
    await until(() => members() === 3 && views().length >= 3);
    expect(starts().at(-1)).toMatchObject({ name: "host-gpu1", CUDA_VISIBLE_DEVICES: "1" });

    const before = views().length;
    group.signal("SIGTERM");
    expect((await group.ended).code, group.err()).toBe(0);
    expect(starts().filter(({ pid }) => lives(pid))).toEqual([]);
    await until(() => members() === 1);
    // They left by planned views: nobody had to be given up.
    const left = views().slice(before);
    expect(left.map(({ reason }) => viewReason(String(reason)))).not.toContain("loss");
    run.signal("SIGINT");
    expect((await run.ended).code, run.err()).toBe(130);
    expect(processesOf(out)).toEqual([]);
  });

  it("a worker whose GPU TensorFlow does not use is refused, and the group says so", async () => {
    const out = join(place.path, "unused");
    const run = train(data, out, 1, ["--epochs", "2000"]);
    const endpoints = join(out, "endpoints.json");
    await until(() => existsSync(endpoints));
    const driver = withDriver("unused-driver", `printf %s '${TABLE}'`);
    const join_ = ["worker", "--join", endpoints, "--devices", "0", "--logs", join(place.path, "l")];
    const none = lockstep(join_, { ...driver, LOCKSTEP_GPU_ADDON: join(place.path, "no-addon") });
    expect((await none.ended).code).toBe(3);
    expect(none.err()).toMatch(/^TensorFlow's library for GPUs is not set up\. .*\[LS_GPU_LIBRARY\]\n$/);
    const group = lockstep(join_, { ...driver, LOCKSTEP_GPU_ADDON: addonInUse() });
    expect((await group.ended).code).toBe(3);
    expect(group.err()).toContain("TensorFlow does not use GPU 0");
    expect(group.err()).toContain("[LS_GPU_UNUSED]");
    run.signal("SIGTERM");
    run.signal("SIGTERM");
    await run.ended;
  });
});
