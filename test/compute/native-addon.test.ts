import { execFileSync } from "node:child_process";
import { copyFileSync, mkdtempSync, realpathSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, expect, test } from "vitest";
import { builtProgram } from "../../deploy/up/built.ts";
import { addonInUse, gpuAddon, seesGpu } from "../../worker/compute/native-addon.ts";

const folder = mkdtempSync(join(tmpdir(), "lockstep-addon-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const MODULE = pathToFileURL(builtProgram("worker/compute/tensorflow.js")).href;
/** Computes something in a thread, as workers do, and says which add-ons the process has mapped. */
const THREAD = `
  const { openTensorFlow } = await import(${JSON.stringify(MODULE)});
  const sum = openTensorFlow().add(1, 2).dataSync()[0];
  require("node:worker_threads").parentPort.postMessage(sum);
`;
const PROGRAM = `
  const { Worker } = require("node:worker_threads");
  const thread = new Worker(${JSON.stringify(`(async () => {${THREAD}})()`)}, { eval: true });
  const sum = await new Promise((resolve, reject) => thread.on("message", resolve).on("error", reject));
  const { keepLoaded } = await import(${JSON.stringify(MODULE)});
  keepLoaded();
  const maps = require("node:fs").readFileSync("/proc/self/maps", "utf8");
  const files = new Set(maps.split("\\n").map((line) => line.split(/\\s+/)[5] ?? "").filter((file) => file.endsWith(".node")));
  console.log(JSON.stringify({ sum, files: [...files] }));
`;

function computing(env: NodeJS.ProcessEnv): { sum: number; files: string[] } {
  const program = `(async () => {${PROGRAM}})()`;
  const stdio: ["ignore", "pipe", "ignore"] = ["ignore", "pipe", "ignore"];
  const said = execFileSync(process.execPath, ["-e", program], {
    env: { ...process.env, ...env },
    encoding: "utf8",
    stdio,
  });
  return JSON.parse(said.trim().split("\n").at(-1)!) as { sum: number; files: string[] };
}

test("a process to which a GPU is shown computes through the add-on for GPUs, every other one through the usual one", () => {
  const usual = realpathSync(addonInUse());
  // The same add-on under another name: what it is linked to does not matter here.
  const other = join(folder, "other.node");
  copyFileSync(usual, other);
  symlinkSync(join(dirname(usual), "tensorflow"), join(folder, "tensorflow"));
  const env = { LOCKSTEP_GPU_ADDON: other };
  const ofAddons = ({ sum, files }: ReturnType<typeof computing>) => [
    sum,
    files.filter((file) => file === usual || file === other),
  ];
  expect(ofAddons(computing({ ...env, CUDA_VISIBLE_DEVICES: "0" }))).toEqual([3, [other]]);
  expect(ofAddons(computing({ ...env, CUDA_VISIBLE_DEVICES: "-1" }))).toEqual([3, [usual]]);
  expect(ofAddons(computing({ LOCKSTEP_GPU_ADDON: join(folder, "none.node"), CUDA_VISIBLE_DEVICES: "0" }))).toEqual([
    3,
    [usual],
  ]);
});

test("which processes see a GPU, and where its add-on is", () => {
  const cases = [undefined, "", "-1", "0", "GPU-1"].map((CUDA_VISIBLE_DEVICES) => seesGpu({ CUDA_VISIBLE_DEVICES }));
  expect(cases).toEqual([false, false, false, true, true]);
  expect(gpuAddon({ LOCKSTEP_GPU_ADDON: join(folder, "none.node") })).toBe(null);
  expect(gpuAddon({ LOCKSTEP_GPU_ADDON: MODULE.slice("file://".length) })).toBe(MODULE.slice("file://".length));
});
