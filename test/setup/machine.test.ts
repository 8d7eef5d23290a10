import { once } from "node:events";
import { watch } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { expect, onTestFinished, test, vi } from "vitest";
import { bootstrap, fakeProgram, isInstalled, pathWith, smallClone, WITH_PACKAGE } from "./clone.ts";
import { deadOrigin, ROOT } from "./support.ts";

const define = (object: string, name: string, value: string) =>
  `Object.defineProperty(${object},"${name}",{value:"${value}"})`;
const glibc = (header: string) => `process.report.getReport=()=>({header:${header}})`;

/** What each lack is said to be, in exactly one line. */
const lacks: [what: string, preload: string, line: RegExp][] = [
  [
    "another system",
    define("process", "platform", "darwin"),
    /^Lockstep runs on Linux x86-64; this is darwin .*\[LS_PLATFORM\]\n$/,
  ],
  [
    "another processor",
    define("process", "arch", "arm64"),
    /^Lockstep runs on Linux x86-64; this is linux arm64\. \[LS_PLATFORM\]\n$/,
  ],
  [
    "an old Node",
    define("process.versions", "node", "20.18.0"),
    /^Lockstep needs Node .* this is 20\.18\.0\..*\[LS_NODE\]\n$/,
  ],
  [
    "a Node between the supported ones",
    define("process.versions", "node", "21.7.3"),
    /this is 21\.7\.3\..*\[LS_NODE\]\n$/,
  ],
  ["musl", glibc("{}"), /^TensorFlow's library needs glibc .* another C library\. \[LS_GLIBC\]\n$/],
  ["an old glibc", glibc('{glibcVersionRuntime:"2.17"}'), /glibc 2\.17\. \[LS_GLIBC\]\n$/],
];

test.each(lacks)("%s: one line, and nothing is installed", async (_, preload, line) => {
  const clone = smallClone(WITH_PACKAGE);
  const { code, stdout, stderr } = await bootstrap(clone, ["demo"], { preload }).ended;
  expect({ code, stdout, stderr }).toEqual({ code: 3, stdout: "", stderr: expect.stringMatching(line) });
  expect(stderr.trim().split("\n").length).toBe(1);
  expect(isInstalled(clone)).toBe(false);
});

test.each(["20.18.1", "20.20.2", "22.0.0", "24.21.0", "25.0.0"])("Node %s is accepted", async (version) => {
  const clone = smallClone();
  const preload = define("process.versions", "node", version);
  const { stderr } = await bootstrap(clone, ["build"], { preload, env: { PATH: pathWith("node") } }).ended;
  expect(stderr).toContain("[LS_COMPILER]");
});

test("no compiler, no npm: one line each, and nothing is installed", async () => {
  const clone = smallClone(WITH_PACKAGE);
  const without = await bootstrap(clone, ["test"], { env: { PATH: pathWith("node", "npm") } }).ended;
  expect(without).toMatchObject({
    code: 3,
    stdout: "",
    stderr: expect.stringMatching(/^g\+\+ is not on PATH\..*\[LS_COMPILER\]\n$/),
  });
  const npmless = await bootstrap(clone, ["test"], { env: { PATH: pathWith("node", "g++") } }).ended;
  expect(npmless.code).toBe(3);
  expect(npmless.stderr.trim().split("\n").at(-1)).toMatch(/^npm is not on PATH\..*\[LS_NPM_MISSING\]$/);
  expect(isInstalled(clone)).toBe(false);
});

test("no network: what was to be fetched, then one line with npm's reason, and nothing is installed", async () => {
  const clone = smallClone(WITH_PACKAGE);
  const dead = await deadOrigin();
  const env = { npm_config_registry: `${dead}/`, npm_config_fetch_retries: "0", npm_config_cache: `${clone}/npm` };
  const { code, stdout, stderr } = await bootstrap(clone, ["demo"], { env }).ended;
  expect({ code, stdout }, stderr).toEqual({ code: 3, stdout: "" });
  const lines = stderr.trim().split("\n");
  expect(lines[0]).toMatch(
    /^To fetch: npm packages \d+ MB, TensorFlow's library 274 MB, .*STL-10 \d+ MB\. About \d+ minutes at 50 Mbit\/s/,
  );
  expect(lines.slice(1)).toEqual([
    "Installing npm packages.",
    expect.stringMatching(/^npm could not install the packages: .*ECONNREFUSED.*\[LS_NPM\]$/),
  ]);
  expect(isInstalled(clone)).toBe(false);
});

test("an interrupted installation is passed on, says nothing more, and starts anew next time", async () => {
  const clone = smallClone(WITH_PACKAGE);
  const path = pathWith("node", "g++");
  fakeProgram(path, "npm", 'require("fs").mkdirSync("node_modules"); setInterval(() => {}, 1000);');
  const { child, ended } = bootstrap(clone, ["build"], { env: { PATH: path } });
  const under = watch(clone);
  onTestFinished(() => under.close());
  // The fake npm has begun when its folder is there.
  while (!isInstalled(clone)) await once(under, "change");
  child.kill("SIGTERM");
  const { code, stderr } = await ended;
  expect(code).toBe(130);
  expect(stderr.trim().split("\n").at(-1)).toBe("Installing npm packages.");
  const again = await bootstrap(clone, ["build"], { env: { PATH: pathWith("node", "g++") } }).ended;
  expect(again.stderr).toContain("[LS_NPM_MISSING]");
});

test("an unknown task is wrong usage", async () => {
  const { code, stderr } = await bootstrap(smallClone(), ["deploy"]).ended;
  expect({ code, stderr }).toEqual({ code: 2, stderr: "usage: bootstrap.mjs demo|test|build [options]\n" });
});

test("a doctor of a fresh clone examines what it can and installs nothing", async () => {
  const clone = smallClone(WITH_PACKAGE);
  const run = (...args: string[]) => bootstrap(clone, ["doctor", ...args], { program: "deploy/lockstep.mjs" }).ended;
  const text = await run();
  expect(text.code).toBe(3);
  expect(text.stdout).toMatch(/^ok {2}platform .*linux x64$/m);
  expect(text.stdout).toMatch(/^no {2}npm packages .*mend: npm run build$/m);
  const json = await run("--json");
  expect(json.code).toBe(3);
  expect(JSON.parse(json.stdout)).toMatchObject({
    healthy: false,
    findings: expect.arrayContaining([
      { what: "npm packages", state: "missing", detail: "missing", mend: "npm run build" },
      { what: "platform", state: "fine", detail: "linux x64", mend: null },
    ]),
  });
  expect(isInstalled(clone)).toBe(false);
});

test("the bootstrap and the command line agree where the cache is", async () => {
  const file = pathToFileURL(join(ROOT, "deploy/bootstrap/machine.mjs")).href;
  const { cacheFolder } = (await import(file)) as { cacheFolder: () => string };
  onTestFinished(() => void vi.unstubAllEnvs());
  for (const [LOCKSTEP_CACHE, XDG_CACHE_HOME] of [
    ["", ""],
    ["", "/x/cache"],
    ["/y", "/x/cache"],
  ] as const) {
    vi.stubEnv("LOCKSTEP_CACHE", LOCKSTEP_CACHE);
    vi.stubEnv("XDG_CACHE_HOME", XDG_CACHE_HOME);
    vi.resetModules();
    const { cacheDirectory } = await import("../../deploy/data/locations.ts");
    expect(cacheFolder()).toBe(cacheDirectory());
  }
});
