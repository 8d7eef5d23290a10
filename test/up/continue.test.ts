import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { writeSynthetic } from "../../deploy/data/synthetic.ts";
import { leftOver } from "../../deploy/up/go-on.ts";
import { linesOf, SMALL_SET, summaryOf, train } from "./runs.ts";
import { processesOf, type Scratch, scratch, until } from "./support.ts";

let place: Scratch;
let data: string;
beforeAll(async () => {
  place = scratch();
  data = join(place.path, "data");
  await writeSynthetic(data, SMALL_SET);
});
afterAll(() => place[Symbol.dispose]());

describe("up --continue", () => {
  it("begins, goes on after an interruption, and then has nothing to do", { timeout: 240_000 }, async () => {
    const out = join(place.path, "run");
    const start = (epochs = 6) =>
      train(data, out, 1, ["--recipe", "quick", "--batch", "40", "--epochs", String(epochs), "--continue"]);
    const first = start();
    const steps = join(out, "steps.ndjson");
    await until(() => existsSync(steps) && readFileSync(steps, "utf8").split("\n").length > 4);
    first.signal("SIGTERM");
    expect((await first.ended).code, first.err()).toBe(130);
    expect(linesOf(steps).length).toBeLessThan(24);

    const otherwise = start(7);
    expect((await otherwise.ended).code).toBe(2);
    expect(otherwise.err()).toContain("LS_RECIPE_CHANGED");

    const second = start();
    expect((await second.ended).code, second.err()).toBe(0);
    const whole = summaryOf(out);
    expect(whole).toMatchObject({ outcome: "done", steps: 24, samplesPerEpochExact: true });
    expect(linesOf(steps)).toHaveLength(24);

    const third = start();
    expect((await third.ended).code).toBe(0);
    expect(third.err()).toContain("has reached its end");

    // Its end was cut off: what belongs to it is made, and nothing is trained again.
    writeFileSync(join(out, "summary.json"), JSON.stringify({ ...whole, weightsSha256: null }));
    rmSync(join(out, "model"), { recursive: true });
    const fourth = start();
    expect((await fourth.ended).code, fourth.err()).toBe(0);
    expect(existsSync(join(out, "model", "model.json"))).toBe(true);
    expect(summaryOf(out)).toEqual(whole);
    expect(processesOf(out)).toEqual([]);
  });

  const summary = { run: "r", outcome: "done", weightsSha256: "00", accuracy: null } as never;
  it.each([
    ["unfinished", null, true],
    ["unfinished", { ...(summary as object), outcome: "failed" }, true],
    ["unconcluded", { ...(summary as object), weightsSha256: null }, false],
    ["unconcluded", summary, true],
    ["done", summary, false],
  ] as const)("finds a run %s by its summary", (expected, found, evaluates) => {
    expect(leftOver(found as never, evaluates)).toBe(expected);
  });
});
