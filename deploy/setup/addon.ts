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
import { LockstepError } from "../../shared/errors.ts";
import { ADDON_LINKS } from "../../worker/compute/native-addon.ts";
import { onPath } from "../up/nats-program.ts";
import type { Flavour, PackagePlaces } from "./places.ts";

/** The libraries of the wheel; the package asks for the first two names of the C library's own download. */
export const LIBRARIES = ["libtensorflow_cc.so.2", "libtensorflow_framework.so.2"] as const;

const FLAGS = ["-shared", "-fPIC", "-O2", "-std=c++17", "-DNAPI_VERSION=8"];
const COMPILE_MILLIS = 600_000;

/**
 * Path of the add-on that belongs to these sources: another version of the package, or other flags, get their own.
 * Node-API lets one serve all versions of Node.
 */
export function addonPath(runtime: string, { tfjs }: PackagePlaces): string {
  const hash = createHash("sha256").update(FLAGS.join(" "));
  const binding = join(tfjs, "binding");
  for (const name of readdirSync(binding).sort()) hash.update(name).update(readFileSync(join(binding, name)));
  return join(runtime, `addon-${hash.digest("hex").slice(0, 16)}.node`);
}

/** @throws LockstepError LS_COMPILER */
export function requireCompiler(): void {
  if (onPath("g++") !== null) return;
  throw new LockstepError("LS_COMPILER", "g++ is not on PATH.", {
    hint: "Install it, for example with `apt-get install g++`.",
    exitCode: 3,
  });
}

/**
 * One compiler line: the package's sources, Node-API's headers, no Python and no make. The add-on finds the libraries
 * beside itself.
 * @throws LockstepError LS_COMPILER, LS_ADDON
 */
export async function compileAddon(
  addon: string,
  { tfjs, nodeApi }: PackagePlaces,
  signal?: AbortSignal,
): Promise<void> {
  requireCompiler();
  const runtime = dirname(addon);
  const binding = join(tfjs, "binding");
  const sources = readdirSync(binding).filter((name) => name.endsWith(".cc"));
  const temporary = `${addon}.${process.pid}.partial`;
  const args = [
    ...FLAGS,
    ...["-I", nodeApi, "-I", join(runtime, "include")],
    ...sources.map((name) => join(binding, name)),
    ...["-o", temporary, "-Wl,-rpath,$ORIGIN/tensorflow", "-L", join(runtime, "tensorflow")],
    ...LIBRARIES.map((name) => `-l:${name}`),
  ];
  try {
    await promisify(execFile)("g++", args, { timeout: COMPILE_MILLIS, maxBuffer: 16 << 20, ...(signal && { signal }) });
  } catch (cause) {
    rmSync(temporary, { force: true });
    signal?.throwIfAborted();
    const said = String((cause as { stderr?: string }).stderr ?? "").split("\n");
    const first = said.find((line) => /error|not found|cannot/i.test(line)) ?? (cause as Error).message.split("\n")[0];
    throw new LockstepError("LS_ADDON", `The add-on does not compile: ${first?.trim()}.`, {
      hint: "It needs g++ 9 or newer with the headers of its standard library.",
      exitCode: 3,
      cause,
    });
  }
  renameSync(temporary, addon);
}

/** Whether the package finds this add-on as the one of its flavour. */
export function isLinked(addon: string, packages: PackagePlaces, flavour: Flavour): boolean {
  const linked = linksOf(addon, packages, flavour).every(([path, target]) => {
    try {
      return lstatSync(path).isSymbolicLink() && readlinkSync(path) === target;
    } catch {
      return false;
    }
  });
  return linked && hasUsual(packages);
}

/**
 * Node resolves a link before it loads a file, so that the add-on's own folder, in the cache, counts for its libraries. The
 * GPU library computes on the CPU as well: it serves there until the CPU's own one is set up.
 */
export function linkAddon(addon: string, packages: PackagePlaces, flavour: Flavour): void {
  link(linksOf(addon, packages, flavour));
  if (!hasUsual(packages)) link(linksOf(addon, packages, "cpu"));
}

/** Whether the package finds any add-on: a link may lead to what was cleaned away. */
const hasUsual = ({ tfjs }: PackagePlaces): boolean => existsSync(join(tfjs, ADDON_LINKS.cpu));

function link(links: readonly Link[]): void {
  for (const [path, target] of links) {
    mkdirSync(dirname(path), { recursive: true });
    const temporary = `${path}.${process.pid}`;
    rmSync(temporary, { force: true });
    symlinkSync(target, temporary);
    renameSync(temporary, path);
  }
}

type Link = readonly [path: string, target: string];

function linksOf(addon: string, { tfjs }: PackagePlaces, flavour: Flavour): Link[] {
  const library = join(dirname(addon), "tensorflow");
  const ours: Link = [join(tfjs, ADDON_LINKS[flavour]), addon];
  if (flavour === "gpu") return [ours];
  return [
    ours,
    [join(tfjs, "deps/lib/libtensorflow.so"), join(library, LIBRARIES[0])],
    [join(tfjs, "deps/lib/libtensorflow_framework.so"), join(library, LIBRARIES[1])],
  ];
}
