import { cpSync, existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { writeSynthetic } from "../../deploy/data/synthetic.ts";
import { chooseImages } from "../../shared/data/training-part.ts";
import { decodePredictions, type Predictions } from "../../worker/evaluation/predictions.ts";
import { readJson, SMALL_SET, summaryOf } from "./runs.ts";
import { lockstep, type Scratch, scratch } from "./support.ts";

/** Real processes: a run that chooses, which cannot know the test images, and a final run that takes its temperature. */
let place: Scratch;
let data: string;
/** The same without test images. */
let blind: string;

beforeAll(async () => {
  place = scratch();
  data = join(place.path, "data");
  blind = join(place.path, "blind");
  await writeSynthetic(data, SMALL_SET);
  // No map is examined: that takes longer than all the rest.
  const config = { place: { evaluation: { batch: 20, examined: 0 } } };
  writeFileSync(join(place.path, "config.json"), JSON.stringify(config));
  cpSync(data, blind, { recursive: true });
  for (const name of ["test_X.bin", "test_y.bin"]) rmSync(join(blind, name));
});
afterAll(() => place[Symbol.dispose]());

async function run(name: string, from: string, more: readonly string[]) {
  const out = join(place.path, name);
  const recipe = ["--model", "alexnet", "--batch", "40", "--shards", "4", "--steps", "8"];
  const here = ["--out", out, "--workers", "2", "--no-nats", "--config", join(place.path, "config.json")];
  const process = lockstep(["up", "--data", from, ...here, ...recipe, ...more]);
  return { out, ...(await process.ended), err: process.err(), told: process.out() };
}

function predictionsOf(out: string): Predictions {
  const file = join(out, "report", "predictions.safetensors");
  return decodePredictions(new Uint8Array(readFileSync(file)), file);
}

/** Mean negative log likelihood of softmax(logits / T), by hand. */
function cost({ logits, labels, samples, classes }: Predictions, temperature: number): number {
  let sum = 0;
  for (let i = 0; i < samples; i++) {
    const row = [...logits.subarray(i * classes, (i + 1) * classes)].map((logit) => logit / temperature);
    const top = Math.max(...row);
    sum += top + Math.log(row.reduce((total, logit) => total + Math.exp(logit - top), 0)) - row[labels[i]!]!;
  }
  return sum / samples;
}

test("a run with --hold-out trains, evaluates and reports without any test images, and gives a final run its temperature", async () => {
  const chosen = await run("chosen", blind, ["--hold-out", "0.25", "--seed", "7"]);
  expect(chosen.code, chosen.err).toBe(0);
  expect(summaryOf(chosen.out)).toMatchObject({ evaluatedOn: "held-out", testImages: 40, samplesPerEpochExact: true });
  const labels = [...readFileSync(join(data, "train_y.bin"))];
  const { heldOut } = chooseImages({ kind: "holdOut", oneIn: 4, seed: 7 }, labels, []);
  const predictions = predictionsOf(chosen.out);
  expect([...predictions.labels]).toEqual([...heldOut!].map((id) => labels[id]! - 1));
  expect(readJson(chosen.out, "config.json").recipe).toMatchObject({
    trainingPart: { kind: "holdOut", oneIn: 4, seed: 7 },
    data: { trainImages: 120 },
  });
  const [page, card] = ["report.html", "model-card.md"].map((name) =>
    readFileSync(join(chosen.out, "report", name), "utf8"),
  );
  expect(page).toContain("of 40 training images that were held out.</h1>");
  for (const text of [page, card]) expect(text).not.toMatch(/\d test images/);
  expect(readJson(chosen.out, "report", "report.json")).toMatchObject({ evaluatedOn: "held-out", testImages: 40 });
  expect(chosen.told).toMatch(/accuracy +[\d.]+ % of held-out training images/);

  const itself = await run("itself", blind, ["--hold-out", "0.25", "--temperature-from", chosen.out]);
  expect([itself.code, itself.err]).toEqual([2, expect.stringContaining("evaluated on held-out ones")]);
  const regions = lockstep(["evaluate", chosen.out, "--regions", "regions.csv", "--report", join(place.path, "mixed")]);
  expect((await regions.ended).code).toBe(2);
  expect(regions.err()).toContain("--regions tells of test images");
  const redrawn = lockstep(["resume", chosen.out, "--fork", "--hold-out", "0.25", "--seed", "8", "--steps", "9"]);
  expect((await redrawn.ended).code).toBe(2);
  expect(redrawn.err()).toContain("does not fit this recipe: trainingPart.seed 7 -> 8");

  const final = await run("final", data, ["--seed", "7", "--temperature-from", chosen.out]);
  expect(final.code, final.err).toBe(0);
  expect(summaryOf(final.out)).toMatchObject({ evaluatedOn: "test", testImages: 20 });
  const { calibration } = readJson(final.out, "report", "report.json") as {
    calibration: { temperature: { value: number; heldOutImages: number; negativeLogLikelihood: number } };
  };
  const { value, heldOutImages, negativeLogLikelihood } = calibration.temperature;
  expect(heldOutImages).toBe(40);
  for (const other of [value * 0.99, value * 1.01])
    expect(cost(predictions, value)).toBeLessThan(cost(predictions, other));
  expect(negativeLogLikelihood).toBeCloseTo(cost(predictionsOf(final.out), value), 6);

  const mixed = lockstep(["evaluate", chosen.out, final.out, "--report", join(place.path, "mixed")]);
  expect((await mixed.ended).code).toBe(2);
  expect(mixed.err()).toContain("were evaluated on different images");

  const refused = await run("refused", data, ["--temperature-from", final.out]);
  expect([refused.code, refused.err]).toEqual([2, expect.stringContaining("held no training images out")]);
  expect(existsSync(join(place.path, "refused", "config.json"))).toBe(false);
}, 240_000);
