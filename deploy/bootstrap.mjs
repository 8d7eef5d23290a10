// Gets a fresh clone to where `demo` and `test` can run, with nothing but Node's own modules: checks the machine,
// installs npm packages, builds, sets the native runtime up, then does what it was asked. Safe to interrupt and to run
// twice at once.
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const say = (text) => process.stderr.write(`${text}\n`);

/** One clear line and exit code 3: the environment lacks something. */
class Missing extends Error {}

export function checkMachine({
  platform = process.platform,
  arch = process.arch,
  version = process.versions.node,
  path = process.env.PATH,
} = {}) {
  if (platform !== "linux" || arch !== "x64") {
    throw new Missing(`Lockstep runs on Linux x86-64; this is ${platform} ${arch}. [LS_PLATFORM]`);
  }
  const [major, minor] = version.split(".").map(Number);
  const supported = (major === 20 && minor >= 18) || major === 22 || major >= 24;
  if (!supported)
    throw new Missing(
      `Lockstep needs Node 20.18 or newer, 22 or 24; this is ${version}. Install one from nodejs.org. [LS_NODE]`,
    );
  const compiler = (path ?? "").split(":").some((folder) => folder !== "" && existsSync(join(folder, "g++")));
  if (!compiler)
    throw new Missing("g++ is not on PATH. Install it, for example with `apt-get install g++`. [LS_COMPILER]");
}

// ---- a lock between processes, left behind by a dead one without harm

const lockFolder = join(root, ".bootstrap.lock");

async function locked(work) {
  for (let said = false; ; ) {
    try {
      mkdirSync(lockFolder);
      writeFileSync(join(lockFolder, "pid"), String(process.pid));
      break;
    } catch (error) {
      if (error.code !== "EEXIST") throw new Missing(`${root} is not writable: ${error.message}. [LS_NOT_WRITABLE]`);
      if (!holderLives()) rmSync(lockFolder, { recursive: true, force: true });
      else if (!said) {
        said = true;
        say("Another process is setting this clone up; waiting for it.");
      }
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
  const release = () => rmSync(lockFolder, { recursive: true, force: true });
  process.on("exit", release);
  try {
    return await work();
  } finally {
    process.off("exit", release);
    release();
  }
}

function holderLives() {
  try {
    const age = Date.now() - statSync(lockFolder).mtimeMs;
    const file = join(lockFolder, "pid");
    if (!existsSync(file)) return age < 5000;
    process.kill(Number(readFileSync(file, "utf8")), 0);
    return true;
  } catch (error) {
    return error.code === "EPERM";
  }
}

// ---- npm packages

function run(command, args, options = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: root, stdio: ["ignore", 2, 2], ...options });
    child.on("error", reject);
    child.on("exit", (code, signal) => resolve(signal === null ? code : 130));
  });
}

const hashOf = (text) => createHash("sha256").update(text).digest("hex");

async function installPackages() {
  const stamp = join(root, "node_modules", ".lockstep");
  const wanted = hashOf(readFileSync(join(root, "package-lock.json")));
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === wanted) return;
  say("Installing npm packages: about 250 MB, half a minute on a fast line.");
  const code = await run("npm", ["ci", "--include=dev", "--no-fund", "--no-audit", "--loglevel=error"]).catch(
    (error) => error,
  );
  if (code !== 0) {
    throw new Missing(
      `npm could not install the packages (${code.message ?? `exit code ${code}`}). Check the network and npm's registry setting, then run the command again. [LS_NPM]`,
    );
  }
  writeFileSync(stamp, wanted);
}

// ---- the build

const SOURCES = ["coordinator", "worker", "shared", "deploy", "test", "proto"];
const ASSETS = /\.(html|css|eta|js|mjs|json|txt|proto|svg|yml|yaml)$/;

function* files(folder) {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) yield* files(path);
    else yield path;
  }
}

async function build() {
  const sources = [
    ...SOURCES.flatMap((folder) => [...files(join(root, folder))]),
    join(root, "tsconfig.json"),
    join(root, "package-lock.json"),
  ];
  const wanted = hashOf(
    sources
      .map((file) => `${relative(root, file)} ${hashOf(readFileSync(file))}`)
      .sort()
      .join("\n"),
  );
  const stamp = join(root, "dist", ".lockstep");
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === wanted) return;
  say("Building.");
  const temporary = join(root, `dist.${process.pid}`);
  rmSync(temporary, { recursive: true, force: true });
  const node = process.execPath;
  const module = (path) => join(root, "node_modules", path);
  const typescript = await run(node, [module("typescript/bin/tsc"), "-p", "tsconfig.json", "--outDir", temporary]);
  const wasm = join(temporary, "worker/arithmetic/arithmetic.wasm");
  const assembly = await run(node, [
    module("assemblyscript/bin/asc.js"),
    "--config",
    "worker/arithmetic/asconfig.json",
    "--target",
    "release",
    "--outFile",
    wasm,
  ]);
  if (typescript !== 0 || assembly !== 0) {
    rmSync(temporary, { recursive: true, force: true });
    throw new Missing("The build failed; the lines above say why. [LS_BUILD]");
  }
  for (const file of sources) {
    if (!ASSETS.test(file) || !SOURCES.includes(relative(root, file).split("/")[0])) continue;
    const to = join(temporary, relative(root, file));
    mkdirSync(dirname(to), { recursive: true });
    cpSync(file, to);
  }
  writeFileSync(join(temporary, ".lockstep"), wanted);
  const old = join(root, `dist.${process.pid}.old`);
  if (existsSync(join(root, "dist"))) renameSync(join(root, "dist"), old);
  renameSync(temporary, join(root, "dist"));
  rmSync(old, { recursive: true, force: true });
}

/** Packages and build, as they are wanted by the files of this clone. */
export async function prepare() {
  checkMachine();
  await locked(async () => {
    await installPackages();
    await build();
  });
}

// ---- what can be asked for

const lockstep = (...args) =>
  run(process.execPath, [join(root, "dist/deploy/cli/main.js"), ...args], { stdio: "inherit" });

async function demo(args) {
  const code = await lockstep("setup");
  return code !== 0 ? code : lockstep("up", "--demo", ...args);
}

async function test(args) {
  const code = await lockstep("setup");
  if (code !== 0) return code;
  for (const [name, command] of [
    ["type check", [join(root, "node_modules/typescript/bin/tsc"), "--noEmit", "-p", "tsconfig.json"]],
    ["biome", [join(root, "node_modules/@biomejs/biome/bin/biome"), "check", "."]],
  ]) {
    say(`Running the ${name}.`);
    const failed = await run(process.execPath, command);
    if (failed !== 0) {
      process.stdout.write(`The ${name} failed.\n0 passed, 1 failed, 0 skipped\n`);
      return 1;
    }
  }
  const report = join(root, "node_modules/.lockstep-tests.json");
  rmSync(report, { force: true });
  const vitest = [
    join(root, "node_modules/vitest/vitest.mjs"),
    "run",
    "--reporter=default",
    "--reporter=json",
    `--outputFile.json=${report}`,
    ...args,
  ];
  const status = await run(process.execPath, vitest, { stdio: "inherit" });
  const counts = existsSync(report)
    ? JSON.parse(readFileSync(report, "utf8"))
    : { numPassedTests: 0, numFailedTests: 1, numPendingTests: 0, numTodoTests: 0 };
  const failures = Math.max(counts.numFailedTests, status === 0 ? 0 : 1);
  process.stdout.write(
    `${counts.numPassedTests} passed, ${failures} failed, ${counts.numPendingTests + counts.numTodoTests} skipped\n`,
  );
  return failures === 0 ? 0 : 1;
}

async function main([task, ...args]) {
  await prepare();
  if (task === "build") return 0;
  if (task === "demo") return demo(args);
  if (task === "test") return test(args);
  say(`There is no task "${task}": demo, test or build.`);
  return 2;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => {}); // The child in front ends first and says so.
  main(process.argv.slice(2)).then(
    (code) => process.exit(code),
    (error) => {
      say(error instanceof Missing ? error.message : `${error.stack}`);
      process.exit(error instanceof Missing ? 3 : 1);
    },
  );
}
