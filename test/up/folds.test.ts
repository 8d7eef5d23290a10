import { readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { writeSynthetic } from "../../deploy/data/synthetic.ts";
import { summarizeFolds } from "../../deploy/up/folds.ts";
import { readJson, SMALL_SET, summaryOf } from "./runs.ts";
import { lockstep, type Scratch, scratch } from "./support.ts";

let place: Scratch;
beforeAll(() => {
  place = scratch();
});
afterAll(() => place[Symbol.dispose]());

test("mean and standard deviation are those between folds", () => {
  const folds = [0.5, 0.7, 0.6].map((top1, i) => ({ fold: i + 1, run: "", top1, weightsSha256: "" }));
  const { mean, spread } = summarizeFolds(folds);
  // By hand: deviations 0.1, 0.1 and 0; 0.02 / 2 = 0.01.
  expect([mean, spread]).toEqual([expect.closeTo(0.6, 12), expect.closeTo(0.1, 12)]);
  expect(summarizeFolds(folds.slice(0, 1)).spread).toBeNull();
});

test("--folds trains on each fold alone, leaves runs that have ended and makes those that are missing", async () => {
  const data = join(place.path, "data");
  const out = join(place.path, "folds");
  await writeSynthetic(data, SMALL_SET);
  const ids = (from: number, step: number) => Array.from({ length: 48 }, (_, i) => from + step * i).join(" ");
  writeFileSync(join(data, "fold_indices.txt"), `${ids(0, 1)}\n${ids(1, 3)}\n`);
  const config = join(place.path, "config.json");
  writeFileSync(config, JSON.stringify({ place: { evaluation: { batch: 20, examined: 0 } } }));
  const run = async (steps = 3, wanted = 0) => {
    const recipe = [
      "--model",
      "alexnet",
      "--batch",
      "16",
      "--shards",
      "4",
      "--steps",
      String(steps),
      "--config",
      config,
    ];
    const process = lockstep([
      "up",
      "--folds",
      "--json",
      "--data",
      data,
      "--out",
      out,
      "--workers",
      "2",
      "--no-nats",
      ...recipe,
    ]);
    const { code } = await process.ended;
    expect(code, process.err()).toBe(wanted);
    if (wanted !== 0) return { err: process.err() };
    return JSON.parse(process.out().trim().split("\n").at(-1)!) as Record<string, unknown>;
  };
  const first = await run();
  const summaries = ["fold-1", "fold-2"].map((name) => summaryOf(join(out, name)));
  const top1 = summaries.map(({ accuracy }) => (accuracy as { top1: number }).top1);
  expect(first).toMatchObject({ type: "folds", mean: (top1[0]! + top1[1]!) / 2, folds: [{ fold: 1 }, { fold: 2 }] });
  for (const [i, name] of ["fold-1", "fold-2"].entries()) {
    expect(summaries[i]).toMatchObject({ evaluatedOn: "test", testImages: 20, samplesPerEpochExact: true });
    expect(readJson(out, name, "config.json").recipe).toMatchObject({
      trainingPart: { kind: "fold", fold: i + 1 },
      data: { trainImages: 48 },
    });
  }
  expect(summaries[0]!.weightsSha256).not.toBe(summaries[1]!.weightsSha256);

  const summary = join(out, "fold-2", "summary.json");
  writeFileSync(summary, JSON.stringify({ ...summaries[1], accuracy: null }));
  expect((await run(3, 1)).err).toContain("has ended without an accuracy");
  const kept = statSync(join(out, "fold-1", "summary.json")).mtimeMs;
  rmSync(join(out, "fold-2"), { recursive: true });
  expect((await run(4, 2)).err).toContain("another recipe: steps 3 -> 4");
  const again = await run();
  expect(statSync(join(out, "fold-1", "summary.json")).mtimeMs).toBe(kept);
  const hash = (result: object) =>
    (result as { folds: { weightsSha256: string }[] }).folds.map((fold) => fold.weightsSha256);
  expect(hash(again)).toEqual(hash(first));
  expect(JSON.parse(readFileSync(join(out, "folds.json"), "utf8"))).toMatchObject({ mean: again.mean });
}, 240_000);
