import { join } from "node:path";
import { expect, test } from "vitest";
import type { Finding } from "../../deploy/setup/finding.ts";
import { pathWith } from "./clone.ts";
import { deadOrigin, ROOT, start, temporaryFolder, writeTree } from "./support.ts";

/** The built command line, with a cache and a home of its own. */
function lockstep(args: readonly string[], env: NodeJS.ProcessEnv = {}) {
  const folder = temporaryFolder();
  // Node 20.18.1 warns of a JSON module in one of the packages, which is not what is tested here.
  const quiet = { NODE_NO_WARNINGS: "1" };
  const clean = { PATH: process.env.PATH, HOME: folder, LOCKSTEP_CACHE: join(folder, "cache"), ...quiet, ...env };
  return start(process.execPath, [join(ROOT, "dist/deploy/cli/main.js"), ...args], { env: clean, cwd: folder }).ended;
}

const examined = async (env: NodeJS.ProcessEnv) => {
  const { code, stdout } = await lockstep(["doctor", "--json"], env);
  const { healthy, findings } = JSON.parse(stdout) as { healthy: boolean; findings: Finding[] };
  return { code, healthy, of: (what: string) => findings.find((finding) => finding.what === what), findings };
};

test("the machine that runs the tests is healthy", async () => {
  const cache = process.env.LOCKSTEP_CACHE;
  const home = process.env.HOME;
  const { code, healthy, of, findings } = await examined({
    HOME: home,
    LOCKSTEP_CACHE: cache,
    XDG_CACHE_HOME: process.env.XDG_CACHE_HOME,
  });
  // Whoever edits while the tests run has a build that is older than its sources.
  const lacks = findings.filter(({ state }) => state === "missing").map(({ what }) => what);
  expect(lacks.filter((what) => what !== "build")).toEqual([]);
  expect({ code, healthy }).toEqual(lacks.length === 0 ? { code: 0, healthy: true } : { code: 3, healthy: false });
  expect(of("add-on")?.detail).toBe("TensorFlow 2.21.0 loads");
  expect(findings.map(({ what }) => what)).toEqual([
    ...["platform", "Node", "C library", "C++ compiler", "npm packages", "build", "processor"],
    ...["TensorFlow", "add-on", "nats-server", "data set", "disk", "machine", "GPU", "GPU library"],
  ]);
});

test("every lack is named with its mend", async () => {
  const folder = temporaryFolder();
  writeTree(folder, { "train_X.bin": "short", "train_y.bin": "x", "test_X.bin": "short", "test_y.bin": "x" });
  const { code, healthy, of } = await examined({ PATH: pathWith("node"), LOCKSTEP_DATA: folder });
  expect({ code, healthy }).toEqual({ code: 3, healthy: false });
  expect(of("C++ compiler")).toMatchObject({ state: "missing", mend: "install g++, for example: apt-get install g++" });
  expect(of("TensorFlow")).toMatchObject({ state: "missing", mend: "npx lockstep setup" });
  expect(of("nats-server")).toMatchObject({ state: "optional", mend: "npx lockstep setup" });
  expect(of("data set")).toMatchObject({ state: "missing", detail: expect.stringContaining(folder) });
  const text = await lockstep(["doctor"], { PATH: pathWith("node") });
  expect(text.code).toBe(3);
  expect(text.stdout).toMatch(/^no {2}C\+\+ compiler .*; mend: install g\+\+/m);
  expect(text.stderr).toBe("");
});

test("set-up without compiler or network ends with one line and exit code 3", async () => {
  const compiler = await lockstep(["setup"], { PATH: pathWith("node") });
  expect(compiler).toMatchObject({
    code: 3,
    stdout: "",
    stderr: expect.stringMatching(/^g\+\+ is not on PATH\.[^\n]*\[LS_COMPILER\]\n$/),
  });
  const network = await lockstep(["setup"], { PIP_INDEX_URL: `${await deadOrigin()}/simple` });
  expect(network).toMatchObject({
    code: 3,
    stdout: "",
    stderr: expect.stringMatching(
      /^TensorFlow's library: 274 MB to fetch, [^\n]*\nThe Python package index does not give tensorflow-cpu \(127\.0\.0\.1:\d+: [^\n]*ECONNREFUSED[^\n]*\[LS_INDEX\]\n$/,
    ),
  });
  const gpu = await lockstep(["setup", "--gpu"], { PIP_INDEX_URL: `${await deadOrigin()}/simple` });
  expect(gpu).toMatchObject({
    code: 3,
    stdout: "",
    stderr: expect.stringMatching(
      /^TensorFlow's library: 3380 MB to fetch, [^\n]* MB in [^\n]*\nThe Python package index does not give tensorflow \([^\n]*\[LS_INDEX\]\n$/,
    ),
  });
});

test("help, version and wrong usage", async () => {
  expect(await lockstep(["--version"])).toMatchObject({ code: 0, stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/) });
  expect(await lockstep(["setup", "--help"])).toMatchObject({ code: 0, stdout: expect.stringContaining("--clean") });
  expect(await lockstep(["setup", "--nonsense"])).toMatchObject({
    code: 2,
    stderr: expect.stringContaining("--nonsense"),
  });
  expect(await lockstep(["nonsense"])).toMatchObject({ code: 2, stderr: expect.stringContaining("nonsense") });
});
