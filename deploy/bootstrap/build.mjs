// The built tree in dist/, made again when a source has changed.
import { createHash } from "node:crypto";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { dirname, join, relative } from "node:path";
import { run } from "./run.mjs";

/** Sources that do not compile: the lines above say where. */
export class BuildFailed extends Error {
  exitCode = 1;
}

const FOLDERS = ["coordinator", "worker", "shared", "deploy", "test", "proto"];
const SETTINGS = ["tsconfig.json", "package.json"];
const ASSET = /\.(html|css|eta|js|mjs|json|txt|proto|svg|yml|yaml)$/;
const STAMP = ".lockstep.json";
/** Where a build grows before it is moved into place, inside dist/ so that renaming stays on one disk. */
const GROWING = ".growing";

const hashOf = (content) => createHash("sha256").update(content).digest("hex");

/**
 * Whether dist/ was built from the sources as they are now. A package that came without sources is built.
 * @param {string} root
 */
export function isBuilt(root) {
  if (!existsSync(join(root, "tsconfig.json"))) return existsSync(join(root, "dist"));
  const stamp = readStamp(root);
  return stamp !== null && stamp.sources === fingerprint(sourcesOf(root), root);
}

/**
 * Compiles beside the tree in use, then moves over what differs, file by file: whoever reads finds a whole file, old or
 * new, and processes that run on unchanged files do not notice.
 * @throws BuildFailed
 */
export async function build(root) {
  const sources = sourcesOf(root);
  const wanted = fingerprint(sources, root);
  const dist = join(root, "dist");
  const growing = join(dist, GROWING);
  rmSync(growing, { recursive: true, force: true });
  mkdirSync(growing, { recursive: true });
  try {
    await compile(root, growing);
    for (const file of sources.filter((path) => ASSET.test(path) && !SETTINGS.includes(relative(root, path)))) {
      const to = join(growing, relative(root, file));
      mkdirSync(dirname(to), { recursive: true });
      copyFileSync(file, to);
    }
    moveOver(growing, dist, readStamp(root)?.outputs ?? [], wanted);
  } finally {
    rmSync(growing, { recursive: true, force: true });
  }
}

async function compile(root, into) {
  const module = (path) => join(root, "node_modules", path);
  const steps = [
    [module("typescript/bin/tsc"), "-p", "tsconfig.json", "--outDir", into, "--noEmitOnError"],
    [
      module("assemblyscript/bin/asc.js"),
      ...["--config", "worker/arithmetic/asconfig.json", "--target", "release"],
      ...["--outFile", join(into, "worker/arithmetic/arithmetic.wasm")],
    ],
  ];
  for (const step of steps) {
    const { code } = await run(process.execPath, step, { cwd: root });
    if (code !== 0) throw new BuildFailed("The build failed; the lines above say why. [LS_BUILD]");
  }
}

/** `before`: what the last build put there, so that files without a source go and nothing else does. */
function moveOver(growing, dist, before, sources) {
  const outputs = [...files(growing)].map((file) => relative(growing, file)).sort();
  // Says that dist/ is not whole, and what is in it, should the move be interrupted.
  stamp(growing, dist, { sources: null, outputs: [...new Set([...before, ...outputs])] });
  for (const output of outputs) {
    const from = join(growing, output);
    const to = join(dist, output);
    if (existsSync(to) && readFileSync(to).equals(readFileSync(from))) continue;
    mkdirSync(dirname(to), { recursive: true });
    renameSync(from, to);
  }
  const kept = new Set(outputs);
  for (const output of before) if (!kept.has(output)) rmSync(join(dist, output), { force: true });
  stamp(growing, dist, { sources, outputs });
}

function stamp(growing, dist, content) {
  writeFileSync(join(growing, STAMP), JSON.stringify(content));
  renameSync(join(growing, STAMP), join(dist, STAMP));
}

function readStamp(root) {
  try {
    const { sources, outputs } = JSON.parse(readFileSync(join(root, "dist", STAMP), "utf8"));
    return { sources, outputs };
  } catch {
    return null;
  }
}

function sourcesOf(root) {
  const inside = FOLDERS.flatMap((folder) => (existsSync(join(root, folder)) ? [...files(join(root, folder))] : []));
  return [...inside, ...SETTINGS.map((file) => join(root, file))].sort();
}

const fingerprint = (sources, root) =>
  hashOf(sources.map((file) => `${relative(root, file)} ${hashOf(readFileSync(file))}`).join("\n"));

function* files(folder) {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) yield* files(path);
    else if (entry.isFile()) yield path;
  }
}
