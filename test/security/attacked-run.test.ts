import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { writeSynthetic } from "../../deploy/data/synthetic.ts";
import { builtProgram } from "../../deploy/up/built.ts";
import { Probe, readEndpoints } from "../../deploy/up/probe.ts";
import { bitsOf, parseLines, SMALL_SET, summaryOf, train } from "../up/runs.ts";
import { type Scratch, scratch, until } from "../up/support.ts";
import { attackCount } from "./attacks.ts";
import type { Outcome, Target } from "./attempt.ts";
import { layOut } from "./target.ts";

let place: Scratch;
let data: string;
const model = builtProgram("test/faults/programs/small-model.mjs");
const recipe = (steps: number) => ["--model", model, "--steps", String(steps), "--batch", "40", "--shards", "8"];
const STEPS = 24;

beforeAll(async () => {
  place = scratch();
  data = join(place.path, "data");
  await writeSynthetic(data, SMALL_SET);
});
afterAll(() => place[Symbol.dispose]());

function attack(target: Target): Promise<Outcome[]> {
  return new Promise((resolve, reject) => {
    const args = [builtProgram("test/security/intruder.js"), JSON.stringify(target)];
    const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
    let text = "";
    child.stdout.on("data", (chunk) => {
      text += String(chunk);
    });
    child.once("error", reject);
    child.once("close", () => resolve(parseLines<Outcome>(text)));
  });
}

describe("a secured run that is attacked", () => {
  it("refuses everything, and ends with the bits of an undisturbed run without security", async () => {
    const quiet = train(data, join(place.path, "quiet"), 1, recipe(STEPS));
    expect((await quiet.ended).code, quiet.err()).toBe(0);

    const out = join(place.path, "attacked");
    const run = train(data, out, 2, [...recipe(STEPS), "--tls", "always"]);
    const probe = Probe.ofDirectory(out, null);
    try {
      await until(async () => (await probe.status())?.phase === "running");
      for (const name of ["worker-0", "worker-1"]) await probe.inject(name, "slow:500");
      const outcomes = await attack(await layOut(probe, readEndpoints(out)!));
      expect(outcomes.length).toBe(attackCount(false));
      expect(outcomes.filter(({ held }) => !held)).toEqual([]);
      expect((await probe.status())?.phase, "the run must outlast the attacks").toBe("running");
      for (const name of ["worker-0", "worker-1"]) await probe.inject(name, "slow:0");
    } finally {
      probe.close();
    }
    expect((await run.ended).code, run.err()).toBe(0);
    expect(existsSync(join(out, "security", "authority.json"))).toBe(true);
    expect(bitsOf(summaryOf(out))).toEqual(bitsOf(summaryOf(join(place.path, "quiet"))));
    expect(summaryOf(out)).toMatchObject({ failuresSurvived: 0, views: 1, samplesPerEpochExact: true });
  }, 180_000);
});
