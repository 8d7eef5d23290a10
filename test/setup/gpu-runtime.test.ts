import { existsSync, readdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { expect, test, vi } from "vitest";
import { cleanCache } from "../../deploy/setup/clean.ts";
import { gpuLibrary } from "../../deploy/setup/examine-gpu.ts";
import { cachePlaces } from "../../deploy/setup/places.ts";
import { ensureRuntime, runtimeIsReady } from "../../deploy/setup/runtime.ts";
import { RUNTIME_WHEELS } from "../../deploy/setup/wheels.ts";
import { cpuWheel, gpuWheels, runtimeOf, scene, versionOf } from "./scene.ts";
import { deadOrigin } from "./support.ts";

const GPU_LINK = "lib/gpu/tfjs_binding.node";

test("the GPU's library finds CUDA's in wheels beside it; both flavours are kept apart and each has its link", async () => {
  const [cpu, gpu] = [cpuWheel("library"), gpuWheels("library")];
  const { asked, said, show, places, packages, options } = await scene([cpu, ...gpu], "gpu");
  const gpuOptions = { ...options, wheels: runtimeOf(...gpu) };
  await ensureRuntime(show, gpuOptions);
  expect(said[0]).toMatch(/^TensorFlow's library: \d+ MB to fetch, /);
  expect(asked.map(({ path }) => path)).toEqual(
    gpu.flatMap(({ package: name, filename }) => [`/simple/${name}/`, `/files/${filename}`]),
  );
  // It computes on the CPU as well, and does so until the CPU's own is here.
  expect([versionOf(packages.tfjs), versionOf(packages.tfjs, GPU_LINK)]).toEqual([
    "library with CUDA",
    "library with CUDA",
  ]);
  const all = readdirSync(places.runtime, { recursive: true, encoding: "utf8" });
  const files = all.filter((name) => statSync(join(places.runtime, name)).isFile() && !name.startsWith("addon-"));
  expect(files.sort()).toEqual([
    "include/tensorflow/c/c_api.h",
    "nvidia/cuda_nvcc/nvvm/libdevice/libdevice.10.bc",
    "nvidia/cuda_runtime/lib/libcudart.so.12",
    "tensorflow/libtensorflow_cc.so.2",
    "tensorflow/libtensorflow_framework.so.2",
  ]);
  expect(readdirSync(places.downloads)).toEqual([]);

  const cpuPlaces = cachePlaces("cpu", places.cache);
  const cpuOptions = { ...options, flavour: "cpu", places: cpuPlaces, wheels: runtimeOf(cpu) } as const;
  expect(runtimeIsReady(cpuOptions)).toBe(false);
  await ensureRuntime(show, cpuOptions);
  expect([versionOf(packages.tfjs), versionOf(packages.tfjs, GPU_LINK)]).toEqual(["library", "library with CUDA"]);
  expect([runtimeIsReady(cpuOptions), runtimeIsReady(gpuOptions)]).toEqual([true, true]);

  // Without the CPU's the GPU's takes its place again, with no network.
  vi.stubEnv("PIP_INDEX_URL", `${await deadOrigin()}/simple`);
  rmSync(cpuPlaces.runtime, { recursive: true });
  expect(runtimeIsReady(gpuOptions)).toBe(false);
  await ensureRuntime(show, gpuOptions);
  expect(versionOf(packages.tfjs)).toBe("library with CUDA");

  await cleanCache(show, places);
  expect(runtimeIsReady(gpuOptions)).toBe(false);
  expect(existsSync(places.cache) ? readdirSync(places.cache) : []).toEqual([]);
});

test("what was fetched before a wheel was refused is not fetched again", async () => {
  const gpu = gpuWheels("resumed");
  const last = gpu[1]!;
  const { asked, said, show, places, options } = await scene(gpu, "gpu");
  const wrong = { ...last, sha256: "0".repeat(64) };
  await expect(ensureRuntime(show, { ...options, wheels: runtimeOf(gpu[0]!, wrong) })).rejects.toMatchObject({
    code: "LS_DOWNLOAD_HASH",
    exitCode: 3,
  });
  expect(existsSync(places.runtime)).toBe(false);
  expect(readdirSync(places.downloads)).toEqual([gpu[0]!.filename]);
  asked.length = 0;
  await ensureRuntime(show, options);
  expect(asked.map(({ path }) => path)).toEqual([`/simple/${last.package}/`, `/files/${last.filename}`]);
  expect(said.join("")).toContain("; the rest is here)");
});

test("the pinned files are those of TensorFlow's extra and-cuda, each once and of one size", () => {
  const { wheels } = RUNTIME_WHEELS.gpu;
  expect(new Set(wheels.map(({ package: name }) => name)).size).toBe(13);
  for (const { package: name, filename, sha256 } of wheels) {
    expect(filename.startsWith(`${name.replaceAll("-", "_")}-`), filename).toBe(true);
    expect(filename).toMatch(/x86_64\.whl$/);
    expect(sha256).toMatch(/^[0-9a-f]{64}$/);
  }
});

test("a doctor's sentence for each state of the GPU's library", () => {
  const noCard = { reason: "nvidia-smi is not on PATH" };
  const card = { gpus: [{ index: "0", uuid: "GPU-1", driver: "550.54.15", memory: 1, name: "H100" }] };
  const loaded = { version: "2.21.0", device: "cpu", libraries: [{ file: "/x/libcudnn.so.9", failure: null }] };
  const broken = { ...loaded, libraries: [{ file: "/x/libcudnn.so.9", failure: "cannot open libz.so.1" }] };
  expect(gpuLibrary(noCard, null)).toMatchObject({ state: "optional", detail: "not set up", mend: null });
  expect(gpuLibrary(card, null)).toMatchObject({ state: "optional", mend: "npx lockstep setup --gpu" });
  expect(gpuLibrary(noCard, loaded)).toMatchObject({
    state: "fine",
    detail: "TensorFlow 2.21.0 and 1 of 1 libraries of CUDA load; there is no GPU to try it on",
  });
  expect(gpuLibrary(card, { ...loaded, device: "gpu" })).toMatchObject({
    state: "fine",
    detail: expect.stringMatching(/computes on the GPU$/),
  });
  expect(gpuLibrary(card, loaded)).toMatchObject({
    state: "missing",
    detail: expect.stringMatching(/does not use the GPU$/),
    mend: expect.stringContaining("driver"),
  });
  const driverless = {
    ...loaded,
    libraries: [...loaded.libraries, { file: "/x/b.so", failure: "libcuda.so.1: cannot open shared object file" }],
  };
  const detail =
    "TensorFlow 2.21.0 and 1 of 2 libraries of CUDA load (1 with the driver's libcuda.so.1, which is not here)";
  expect(gpuLibrary(noCard, driverless)).toMatchObject({
    state: "fine",
    detail: `${detail}; there is no GPU to try it on`,
  });
  expect(gpuLibrary(card, driverless)).toMatchObject({ state: "missing", detail: expect.stringContaining(detail) });
  expect(gpuLibrary(card, broken)).toMatchObject({
    state: "missing",
    detail: expect.stringMatching(/libcudnn\.so\.9 does not: cannot open libz/),
  });
  expect(gpuLibrary(card, "undefined symbol: x")).toMatchObject({
    state: "missing",
    detail: "does not load: undefined symbol: x",
  });
});
