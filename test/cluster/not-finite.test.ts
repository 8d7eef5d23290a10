import { existsSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { writeSynthetic } from "../../deploy/data/synthetic.ts";
import { linesOf, readJson, SMALL_SET, summaryOf, train as up } from "../up/runs.ts";
import { lockstep, processesOf, type Scratch, scratch } from "../up/support.ts";

/** Real processes whose gradients are made NaN: 8 or 32 steps, 4 shards, a checkpoint after every 4 steps. */
let place: Scratch;
const at = (...path: string[]) => join(place.path, ...path);

async function train(name: string, workers: number, epochs: number, fault: string) {
  const size = ["--model", "alexnet", "--epochs", String(epochs), "--batch", "40", "--shards", "4"];
  const { ended, err } = up(at("data"), at(name), workers, size, { LOCKSTEP_GRADIENT_FAULT: fault });
  return { code: (await ended).code, err: err() };
}

interface StepLine {
  readonly step: number;
  readonly applied: boolean;
  readonly stateHash: string;
  readonly lineage: string;
  readonly gradientNorm: number | null;
}
const stepsOf = (name: string) => linesOf<StepLine>(at(name, "steps.ndjson"));

beforeAll(async () => {
  place = scratch();
  await writeSynthetic(at("data"), SMALL_SET);
}, 120_000);
afterAll(() => place[Symbol.dispose]());

describe("a gradient that is not finite", () => {
  it("makes its step the identity for all alike, whatever their number; plan and lineage go on", async () => {
    for (const workers of [1, 3]) {
      const { code, err } = await train(`one-step-${workers}`, workers, 2, "5:2:300000:nan");
      expect(code, err).toBe(0);
    }
    const steps = stepsOf("one-step-1");
    expect(steps.map(({ applied }) => applied)).toEqual([true, true, true, true, true, false, true, true]);
    expect(steps[5]).toMatchObject({ stateHash: steps[4]!.stateHash, gradientNorm: null });
    expect(new Set(steps.map(({ lineage }) => lineage)).size).toBe(8);
    expect(steps[6]!.stateHash).not.toBe(steps[5]!.stateHash);
    const [alone, together] = ["one-step-1", "one-step-3"].map((name) => summaryOf(at(name)));
    for (const name of ["weightsSha256", "stateSha256", "lineage", "steps", "samplesPerEpochExact"]) {
      expect(together![name], name).toEqual(alone![name]);
    }
    expect(alone!.samplesPerEpochExact).toBe(true);
  }, 300_000);

  it("ends the run at the last good checkpoint after ten steps in a row", async () => {
    const { code, err } = await train("endless", 2, 8, "20+:1:17:nan");
    expect(code).toBe(1);
    expect(err).toContain("not finite in 10 steps in a row, 20 to 29");
    expect(err).toContain("LS_NOT_FINITE");
    expect(err).not.toMatch(/^ {4}at /m);
    expect(processesOf(at("endless"))).toEqual([]);

    // The run stands where its last checkpoint before them stands.
    const summary = summaryOf(at("endless"));
    const manifest = readJson(at("endless", "checkpoints", "manifest.json")) as unknown as {
      file: string;
      tip: { step: number; lineage: string };
    }[];
    const { file, tip } = manifest.at(-1)!;
    expect(tip.step).toBeGreaterThan(0);
    expect(tip.step).toBeLessThanOrEqual(20);
    expect(existsSync(at("endless", "checkpoints", file))).toBe(true);
    expect(summary).toMatchObject({ outcome: "failed", code: "LS_NOT_FINITE", steps: tip.step, lineage: tip.lineage });
    const steps = stepsOf("endless");
    expect(steps.length).toBe(tip.step);
    expect(steps.every(({ applied }) => applied)).toBe(true);

    // Without the fault it goes on from there: no step and no sample is missing.
    const resumed = lockstep(["resume", at("endless"), "--workers", "1"]);
    expect((await resumed.ended).code, resumed.err()).toBe(0);
    expect(summaryOf(at("endless"))).toMatchObject({ steps: 32, samplesPerEpochExact: true });
    const all = stepsOf("endless");
    expect(all.slice(0, tip.step)).toEqual(steps);
    expect(all.map(({ step, applied }) => applied && step)).toEqual(Array.from({ length: 32 }, (_, step) => step));
  }, 300_000);
});
