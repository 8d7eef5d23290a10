import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { writeSynthetic } from "../../deploy/data/synthetic.ts";
import { Probe } from "../../deploy/up/probe.ts";
import type { Recipe } from "../../shared/config/schema.ts";
import { bitsOf, linesOf, readJson, SMALL_SET, type Summary, summaryOf } from "./runs.ts";
import { lockstep, type Scratch, scratch, until } from "./support.ts";

/** Real processes: what is found on the held-out images while a run trains, whatever happens to the workers. */
interface Stored {
  readonly file: string;
  readonly tip: { readonly step: number };
}

let place: Scratch;
let data: string;

beforeAll(async () => {
  place = scratch();
  data = join(place.path, "data");
  await writeSynthetic(data, SMALL_SET);
});
afterAll(() => place[Symbol.dispose]());

/** @param everySteps steps between validations; 0: none */
function run(name: string, workers: number, everySteps: number, more: readonly string[] = []) {
  const out = join(place.path, name);
  const config = join(place.path, `${name}.json`);
  const validation = everySteps === 0 ? {} : { validation: { everySteps, batch: 7 } };
  const evaluation = { batch: 20, examined: 0 };
  writeFileSync(
    config,
    JSON.stringify({ place: { evaluation, checkpoint: { everySteps: 2, keep: 9 }, ...validation } }),
  );
  const recipe = ["--model", "alexnet", "--batch", "40", "--shards", "4", "--steps", "13", "--seed", "7"];
  const here = ["--out", out, "--workers", String(workers), "--no-nats", "--config", config];
  const held = ["--hold-out", "0.25", "--execution", "eager", "--worker-restarts", "100"];
  return { out, process: lockstep(["up", "--data", data, ...here, ...recipe, ...held, ...more]) };
}

const found = (out: string): Summary[] => linesOf(out, "validations.ndjson").map(({ time: _, ...line }) => line);

test("training has the same bits with and without validation, and of a state is found what the evaluator finds of its checkpoint", async () => {
  const plain = run("plain", 1, 0, ["--validate-every", "0", "--no-eval"]);
  expect((await plain.process.ended).code, plain.process.err()).toBe(0);
  expect(existsSync(join(plain.out, "validations.ndjson"))).toBe(false);
  const alone = run("alone", 1, 1, ["--no-eval"]);
  expect((await alone.process.ended).code, alone.process.err()).toBe(0);
  expect(bitsOf(summaryOf(alone.out))).toEqual(bitsOf(summaryOf(plain.out)));
  const curve = found(alone.out);
  expect(curve.map(({ step }) => step)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
  for (const { samples, correct, accuracy, epoch, step } of curve as Record<string, number>[])
    expect([samples, accuracy, epoch]).toEqual([40, correct! / 40, step! / 3]);

  const manifest = readJson(alone.out, "checkpoints", "manifest.json") as unknown as Stored[];
  const { file, tip } = manifest.findLast(({ tip }) => tip.step < 13)!;
  const report = join(place.path, "report");
  const evaluator = ["evaluate", join(alone.out, "checkpoints", file), "--report", report];
  const evaluation = lockstep([...evaluator, "--examine", "0"]);
  expect((await evaluation.ended).code, evaluation.err()).toBe(0);
  const { top1 } = readJson(report, "report.json").accuracy as { top1: { value: number } };
  expect(curve.find(({ step }) => step === tip.step)).toMatchObject({ samples: 40, accuracy: top1.value });
}, 120_000);

test("three workers, one of which is killed, and a killed coordinator find the same, bit by bit", async () => {
  const { out, process } = run("disturbed", 3, 3);
  const probe = Probe.ofDirectory(out, null);
  await until(async () => ((await probe.status())?.step ?? 0) >= 4);
  for (const name of ["worker-1", ""]) {
    const taken = () => probe.inject(name, "kill").then(Boolean, () => false);
    await until(taken);
  }
  expect((await process.ended).code, process.err()).toBe(0);
  probe.close();
  expect(summaryOf(out)).toMatchObject({ samplesPerEpochExact: true });
  const every = found(join(place.path, "alone"));
  expect(found(out)).toEqual(every.filter(({ step }) => (step as number) % 3 === 0));
  expect(bitsOf(summaryOf(out))).toEqual(bitsOf(summaryOf(join(place.path, "alone"))));
  const page = readFileSync(join(out, "report", "report.html"), "utf8");
  expect(page).toMatch(/on held-out images accuracy was [\d.]+ % after step 12/);
}, 120_000);

/** So large that it soon learns nothing more. */
const rate = ["--lr", "1"];

test("a run with patience ends at its best state, which is the same for one worker and for two of which one is killed", async () => {
  const stopped = async (name: string, workers: number, strike: (out: string) => Promise<void>) => {
    const { out, process } = run(name, workers, 0, [
      "--patience",
      "2",
      "--validate-every",
      "0.667",
      "--steps",
      "31",
      ...rate,
    ]);
    await strike(out);
    expect((await process.ended).code, process.err()).toBe(0);
    return out;
  };
  const alone = await stopped("patient", 1, async () => {});
  const curve = found(alone) as { step: number; correct: number }[];
  const best = curve.reduce((most, one) => (one.correct > most.correct ? one : most));
  expect(curve.map(({ step }) => step)).toEqual(Array.from({ length: curve.length }, (_, i) => 2 * (i + 1)));
  expect(curve.length - 1 - curve.indexOf(best)).toBe(2);
  const summary = summaryOf(alone);
  expect(summary).toMatchObject({ outcome: "done", steps: best.step, samplesPerEpochExact: true });
  expect((summary.accuracy as { top1: number }).top1).toBeCloseTo(best.correct / 40, 9);
  expect(linesOf(alone, "steps.ndjson")).toHaveLength(best.step);
  const { recipe } = readJson(alone, "config.json") as { recipe: Recipe };
  expect(recipe.earlyStopping).toEqual({ everySteps: 2, batch: 25, patience: 2 });

  const killed = await stopped("patient-2", 2, async (out) => {
    const probe = Probe.ofDirectory(out, null);
    await until(async () => ((await probe.status())?.step ?? 0) >= 1);
    await until(() => probe.inject("worker-1", "kill").then(Boolean, () => false));
    probe.close();
  });
  expect(found(killed)).toEqual(found(alone));
  expect(bitsOf(summaryOf(killed))).toEqual(bitsOf(summary));
}, 120_000);

test("without images that are held out there is nothing to validate on", async () => {
  const refused = run("refused", 1, 0, ["--hold-out", "0", "--validate-every", "1"]);
  expect((await refused.process.ended).code).toBe(2);
  expect(refused.process.err()).toContain("--validate-every needs images that are held out.");
}, 60_000);
