import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type { Page } from "playwright-core";
import sharp from "sharp";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { exportModel } from "../../worker/compute/export.ts";
import { alexnet } from "../../worker/compute/models/alexnet.ts";
import { resnet } from "../../worker/compute/models/resnet.ts";
import { Predictor } from "../../worker/compute/predictor.ts";
import { TRY_PAGE, writeTryPage } from "../../worker/evaluation/try-page.ts";
import { Bench, fillWeights, tensorflow } from "../compute/support.ts";
import { chromiumProgram, type WatchedPage, watchedPage, whyNoChromium } from "./chromium.ts";
import { lehmer } from "./support.ts";

const tf = tensorflow();
const SIDE = 32;
const NAMES = ["cat", "dog", "owl", "ant"];
const [MEAN, DEVIATION] = [
  [0.4, 0.5, 0.6],
  [0.2, 0.3, 0.25],
];

/** A picture of blotches, as bytes and as what the model sees. */
function blotches(seed: number) {
  const random = lehmer(seed);
  const centres = Array.from({ length: 5 }, () => [random() * SIDE, random() * SIDE, random() * 3, random() * 90]);
  const data = Buffer.alloc(SIDE * SIDE * 3);
  data.forEach((_, i) => {
    const [c, x, y] = [i % 3, Math.floor(i / 3) % SIDE, Math.floor(i / 3 / SIDE)];
    const sum = centres.reduce(
      (all, [cy, cx, channel, size]) =>
        all + (Math.floor(channel!) === c ? 220 : 60) * Math.exp(-((y - cy!) ** 2 + (x - cx!) ** 2) / (20 + size!)),
      20,
    );
    data[i] = Math.min(255, Math.round(sum));
  });
  const values = Float32Array.from(data, (byte, i) => (byte / 255 - MEAN[i % 3]!) / DEVIATION[i % 3]!);
  return { data, values };
}

describe.skipIf(chromiumProgram === undefined)(`a trained model in the browser${whyNoChromium}`, () => {
  let scratch: string;
  let watched: WatchedPage;
  let page: Page;

  beforeAll(async () => {
    scratch = mkdtempSync(join(tmpdir(), "lockstep-try-"));
    watched = await watchedPage(join(scratch, "profile"), (message) => message.type() === "error");
    page = watched.page;
  });
  afterAll(async () => {
    await watched?.close();
    rmSync(scratch, { recursive: true, force: true });
  });

  const models = {
    alexnet: () => alexnet(tf, [SIDE, SIDE, 3], 4, { widths: [3, 5, 6], dropout: 0.3 }),
    resnet: () => resnet(tf, [96, 96, 3], 4, { blocks: [1, 2, 1], widths: [4, 6, 8] }),
  };

  it.each(["alexnet", "resnet"] as const)("%s: predicts what the evaluator predicts, asks nobody", async (name) => {
    const model = models[name]();
    const bench = new Bench(tf, model);
    fillWeights(bench);
    const facts = {
      model: name,
      classNames: NAMES,
      inputShape: [SIDE, SIDE, 3] as const,
      mean: MEAN,
      deviation: DEVIATION,
      metadata: {},
    };
    await exportModel(model, bench.layout, bench.weights, join(scratch, name), facts as never);
    const file = writeTryPage(join(scratch, name), true, join(scratch, name))!;
    expect(file.endsWith(TRY_PAGE)).toBe(true);
    await watched.open(pathToFileURL(file).href, 390, "light");
    await page.waitForSelector("#photo:not([disabled])");
    const predictor = new Predictor(tf, model, bench.layout, bench.weights);
    for (const seed of [5, 6]) {
      const { data, values } = blotches(seed);
      const png = await sharp(data, { raw: { width: SIDE, height: SIDE, channels: 3 } })
        .png()
        .toBuffer();
      await page.setInputFiles("#photo", { name: "mine.png", mimeType: "image/png", buffer: png });
      const { logits } = predictor.run(values, [1, SIDE, SIDE, 3], true);
      const exponents = [...logits].map((logit) => Math.exp(logit - Math.max(...logits)));
      const expected = exponents.map((value) => value / exponents.reduce((sum, one) => sum + one, 0));
      await page.waitForFunction(
        (first) => {
          const row = document.querySelector<HTMLElement>("#classes button");
          return row !== null && Math.abs(Number(row.dataset.probability) - first) < 1e-3;
        },
        Math.max(...expected),
      );
      const shown = await page.$$eval("#classes button", (rows) =>
        rows.map(({ dataset }) => [Number(dataset.label), Number(dataset.probability)] as const),
      );
      expect(shown.length).toBe(4);
      for (const [label, probability] of shown) expect(Math.abs(probability - expected[label]!)).toBeLessThan(1e-3);
    }
    expect(await page.locator("#map").isVisible()).toBe(true);
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(390);
    await page.click("#classes button:last-child");
    expect(await page.getAttribute("#classes button:last-child", "aria-pressed")).toBe("true");
    expect(watched.said).toEqual([]);
    expect(watched.asked.filter((url) => !/^(file|blob):/.test(url))).toEqual([]);
  });

  it("says what it cannot show", async () => {
    await page.setInputFiles("#photo", { name: "x.png", mimeType: "image/png", buffer: Buffer.from("no picture") });
    await page.waitForFunction(() => document.getElementById("status")!.textContent!.startsWith("This file cannot"));
  });
});

it("there is no page without an exported model", () => {
  const empty = mkdtempSync(join(tmpdir(), "lockstep-try-"));
  try {
    expect(writeTryPage(empty, false, empty)).toBeNull();
  } finally {
    rmSync(empty, { recursive: true, force: true });
  }
});
