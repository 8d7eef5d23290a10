import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import lockfile from "proper-lockfile";
import { LockstepError } from "../../shared/errors.ts";
import { download } from "./download.ts";
import {
  cachePlaces,
  type Flavour,
  packageRoot,
  TENSORFLOW_PACKAGE,
  TENSORFLOW_VERSION,
  tfjsFolder,
} from "./places.ts";
import { filesOf } from "./python-index.ts";
import type { SetupDisplay } from "./show.ts";
import { linuxWheel, unpackWheel } from "./wheel.ts";

/**
 * TensorFlow's C library from the current Python wheel, and the add-on of @tensorflow/tfjs-node-gpu compiled against it.
 * Both lie in the user's cache and are linked into node_modules, so that other clones share them.
 */
const LIBRARIES = ["libtensorflow_cc.so.2", "libtensorflow_framework.so.2"];
const HEADERS = /^tensorflow\/include\/(tensorflow|tsl|xla\/tsl|external\/[^/]*absl[^/]*)\//;
const ADDON = "lib/napi-v8/tfjs_binding.node";

export async function ensureRuntime(show: SetupDisplay, flavour: Flavour = "cpu"): Promise<void> {
  const places = cachePlaces(flavour);
  const addon = join(places.runtime, `addon-${addonKey()}.node`);
  if (existsSync(addon) && isLinked(addon, places.runtime)) return;
  mkdirSync(places.cache, { recursive: true });
  const release = await lockfile.lock(places.cache, {
    stale: 30_000,
    retries: { retries: 3600, minTimeout: 500, maxTimeout: 1000 },
  });
  try {
    if (!existsSync(join(places.runtime, "lib", LIBRARIES[0]!))) await unpackLibrary(show, flavour);
    if (!existsSync(addon)) await compileAddon(show, places.runtime, addon);
    link(addon, places.runtime);
  } catch (error) {
    throw diskFull(error) ?? error;
  } finally {
    await release().catch(() => {});
  }
}

/** Whether the add-on in node_modules is the one that belongs to the cached library. */
export function runtimeIsReady(flavour: Flavour = "cpu"): boolean {
  const { runtime } = cachePlaces(flavour);
  const addon = join(runtime, `addon-${addonKey()}.node`);
  return existsSync(addon) && isLinked(addon, runtime);
}

async function unpackLibrary(show: SetupDisplay, flavour: Flavour): Promise<void> {
  const { downloads, runtime } = cachePlaces(flavour);
  const name = TENSORFLOW_PACKAGE[flavour];
  const wheel = linuxWheel(await filesOf(name), TENSORFLOW_VERSION);
  if (wheel === null) {
    throw new LockstepError(
      "LS_RUNTIME_MISSING",
      `The Python index has no ${name} ${TENSORFLOW_VERSION} for Linux x86-64.`,
      {
        hint: "Use another index (PIP_INDEX_URL).",
        exitCode: 3,
      },
    );
  }
  show.message(
    `TensorFlow's library: ${Math.round(wheel.size / 1e6)} MB to fetch once for all clones, 1.0 GB on the disk; a minute at 5 MB/s.`,
  );
  const file = join(downloads, wheel.filename);
  await download({ ...wheel, file, onProgress: (done, total) => show.progress("fetching TensorFlow", done, total) });
  show.message("Unpacking.");
  const temporary = `${runtime}.${process.pid}.partial`;
  rmSync(temporary, { recursive: true, force: true });
  await unpackWheel(file, temporary, (entry) => {
    const library = LIBRARIES.find((candidate) => entry === `tensorflow/${candidate}`);
    if (library !== undefined) return join("lib", library);
    return HEADERS.test(entry) ? entry.replace("tensorflow/include/", "include/") : null;
  });
  mkdirSync(dirname(runtime), { recursive: true });
  rmSync(runtime, { recursive: true, force: true });
  renameSync(temporary, runtime);
  rmSync(file, { force: true });
}

/** One compiler line: the sources of the package, Node-API's headers, no Python and no make. */
async function compileAddon(show: SetupDisplay, runtime: string, addon: string): Promise<void> {
  show.message("Compiling the add-on (about 15 s).");
  const binding = join(tfjsFolder(), "binding");
  const library = join(runtime, "lib");
  const sources = readdirSync(binding)
    .filter((name) => name.endsWith(".cc"))
    .map((name) => join(binding, name));
  const temporary = `${addon}.${process.pid}.partial`;
  const args = [
    ...["-shared", "-fPIC", "-O2", "-std=c++17", "-DNAPI_VERSION=8"],
    ...["-I", join(packageRoot(), "node_modules/node-api-headers/include"), "-I", join(runtime, "include")],
    ...sources,
    ...["-o", temporary, `-Wl,-rpath,${library}`, "-L", library],
    ...LIBRARIES.map((name) => `-l:${name}`),
  ];
  try {
    await promisify(execFile)("g++", args, { timeout: 600_000, maxBuffer: 16 << 20 });
  } catch (cause) {
    rmSync(temporary, { force: true });
    const first = String((cause as { stderr?: string }).stderr ?? cause)
      .split("\n")
      .find((line) => /error|not found|cannot/i.test(line));
    throw new LockstepError("LS_ADDON", `The add-on does not compile: ${first ?? "g++ failed"}.`, {
      hint: "Install g++ with C++17 (version 9 or newer).",
      exitCode: 3,
      cause,
    });
  }
  renameSync(temporary, addon);
}

/** Where the package looks for its add-on and library. */
function linksOf(addon: string, runtime: string): [string, string][] {
  const folder = tfjsFolder();
  return [
    [join(folder, ADDON), addon],
    [join(folder, "deps/lib/libtensorflow.so"), join(runtime, "lib", LIBRARIES[0]!)],
    [join(folder, "deps/lib/libtensorflow_framework.so"), join(runtime, "lib", LIBRARIES[1]!)],
  ];
}

function isLinked(addon: string, runtime: string): boolean {
  return linksOf(addon, runtime).every(([path, target]) => {
    try {
      return lstatSync(path).isSymbolicLink() && readlinkSync(path) === target;
    } catch {
      return false;
    }
  });
}

function link(addon: string, runtime: string): void {
  for (const [path, target] of linksOf(addon, runtime)) {
    mkdirSync(dirname(path), { recursive: true });
    const temporary = `${path}.${process.pid}`;
    rmSync(temporary, { force: true });
    symlinkSync(target, temporary);
    renameSync(temporary, path);
  }
}

/** Changes with the sources of the add-on, so that another version of the package gets its own. */
function addonKey(): string {
  const binding = join(tfjsFolder(), "binding");
  const hash = createHash("sha256");
  for (const name of readdirSync(binding).sort()) hash.update(name).update(readFileSync(join(binding, name)));
  return hash.digest("hex").slice(0, 16);
}

function diskFull(error: unknown): LockstepError | null {
  if ((error as NodeJS.ErrnoException).code !== "ENOSPC") return null;
  return new LockstepError("LS_DISK_FULL", "The disk is full.", {
    hint: "Free about 2 GB, or set LOCKSTEP_CACHE to another disk.",
    exitCode: 3,
    cause: error,
  });
}
