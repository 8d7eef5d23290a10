// From a fresh clone to `demo` and `test`, with nothing but Node's own modules: checks the machine, installs npm
// packages, builds, sets the native runtime up, then does what it was asked. Safe to interrupt and to run twice at once.
import { existsSync, readdirSync, readFileSync, realpathSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { BuildFailed, build, isBuilt } from "./bootstrap/build.mjs";
import { locked } from "./bootstrap/lock.mjs";
import { cacheFolder, checkMachine, machineFindings, programOnPath } from "./bootstrap/machine.mjs";
import { installPackages, PACKAGE_MEGABYTES, packagesAreThere, unpackPackages } from "./bootstrap/packages.mjs";
import { run, say } from "./bootstrap/run.mjs";

const root = dirname(dirname(realpathSync(fileURLToPath(import.meta.url))));

/**
 * Packages and build as the files of this clone want them.
 * @param {{task?: string, from?: string | null}} options what it is for: `test` needs the packages for development too;
 *   a folder that `setup --pack` has written, in place of the network
 * @throws Missing, BuildFailed, Interrupted; each has an exitCode
 */
export async function prepare({ task = "run", from = null } = {}) {
  checkMachine({ compiler: from === null && !addonIsThere() });
  const ready = () => isBuilt(root) && packagesAreThere(root, { dev: task === "test" });
  if (ready()) return;
  const wait = () => say("Another process is setting this clone up; waiting for it.");
  await locked(root, wait, async () => {
    if (ready()) return;
    if (!packagesAreThere(root, { dev: true })) {
      if (from === null) {
        announce(task);
        await installPackages(root);
      } else await unpackPackages(root, from);
    }
    if (isBuilt(root)) return;
    say("Building (about 5 s).");
    await build(root);
  });
}

/** What a machine without packages or build can say about itself. */
export function earlyFindings() {
  const packages = packagesAreThere(root, { dev: false });
  const built = isBuilt(root);
  const finding = (what, fine, detail, mend) => ({ what, fine, detail, mend });
  return [
    ...machineFindings(),
    finding("npm packages", packages, packages ? "as package-lock.json wants them" : "missing", "npm run build"),
    finding("build", built, built ? "up to date" : "missing or older than its sources", "npm run build"),
  ];
}

const addonIsThere = () =>
  existsSync(join(root, "node_modules/@tensorflow/tfjs-node-gpu/lib/napi-v8/tfjs_binding.node"));

/** Before the first byte is fetched: what, how much, how long. */
function announce(task) {
  const cached = (folder) => {
    const path = join(cacheFolder(), folder);
    return existsSync(path) && readdirSync(path).length > 0;
  };
  const parts = [["npm packages", PACKAGE_MEGABYTES]];
  if (task === "demo" || task === "test") {
    if (!cached("runtime")) parts.push(["TensorFlow's library", 274]);
    if (!cached("nats") && programOnPath("nats-server") === null) parts.push(["nats-server", 7]);
  }
  if (task === "demo" && !process.env.LOCKSTEP_DATA && !cached("data/stl10_binary")) {
    parts.push(["the labelled images of STL-10", 305]);
  }
  const megabytes = parts.reduce((sum, [, size]) => sum + size, 0);
  const minutes = Math.ceil((megabytes * 8) / 50 / 60 + 1);
  const list = parts.map(([what, size]) => `${what} ${size} MB`).join(", ");
  say(`To fetch: ${list}. About ${minutes} minutes at 50 Mbit/s; it can be interrupted.`);
  say("Installing npm packages.");
}

/** The command line of the built tree. */
const lockstep = async (...args) => {
  const program = join(root, "dist/deploy/cli/main.js");
  return (await run(process.execPath, [program, ...args], { stdio: "inherit" })).code;
};

async function demo(args) {
  const code = await lockstep("setup");
  return code !== 0 ? code : lockstep("up", "--demo", ...args);
}

async function test(args) {
  const code = await lockstep("setup");
  if (code !== 0) return code;
  const module = (path) => join(root, "node_modules", path);
  const checks = [
    ["type check", [module("typescript/bin/tsc"), "--noEmit", "-p", "tsconfig.json"]],
    ["biome check", [module("@biomejs/biome/bin/biome"), "check", "."]],
  ];
  let failed = 0;
  for (const [name, command] of checks) {
    say(`Running the ${name}.`);
    const { code: status } = await run(process.execPath, command, { cwd: root });
    if (status === 0) continue;
    failed += 1;
    say(`The ${name} failed.`);
  }
  const counts = await runTests(module("vitest/vitest.mjs"), args);
  return conclude({ ...counts, failed: counts.failed + failed });
}

/** Runs the suite; whatever makes it end badly without a failed test counts as one. */
async function runTests(vitest, args) {
  const report = join(root, "node_modules", `.lockstep-tests.${process.pid}.json`);
  const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${report}`];
  try {
    const { code } = await run(process.execPath, [vitest, "run", ...reporters, ...args], {
      cwd: root,
      stdio: "inherit",
    });
    const facts = existsSync(report) ? JSON.parse(readFileSync(report, "utf8")) : {};
    const { numPassedTests: passed = 0, numFailedTests = 0, numPendingTests = 0, numTodoTests = 0 } = facts;
    return {
      passed,
      failed: Math.max(numFailedTests, code === 0 ? 0 : 1),
      skipped: numPendingTests + numTodoTests,
    };
  } finally {
    rmSync(report, { force: true });
  }
}

/** The last line of `npm test`. */
function conclude({ passed, failed, skipped }) {
  process.stdout.write(`${passed} passed, ${failed} failed, ${skipped} skipped\n`);
  return failed === 0 ? 0 : 1;
}

async function main([task, ...args]) {
  const tasks = { build: () => 0, demo, test };
  if (!Object.hasOwn(tasks, task ?? "")) {
    say("usage: bootstrap.mjs demo|test|build [options]");
    return 2;
  }
  try {
    await prepare({ task });
  } catch (error) {
    if (!(error instanceof BuildFailed && task === "test")) throw error;
    say(error.message);
    return conclude({ passed: 0, failed: 1, skipped: 0 });
  }
  return tasks[task](args);
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === realpathSync(fileURLToPath(import.meta.url))) {
  main(process.argv.slice(2)).then(
    (code) => process.exit(code),
    (error) => {
      if (error.exitCode === undefined) say(`Something unexpected happened: ${error.stack}`);
      else if (error.exitCode !== 130) say(error.message);
      process.exit(error.exitCode ?? 1);
    },
  );
}
