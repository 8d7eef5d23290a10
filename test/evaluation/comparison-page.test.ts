import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { writeSynthetic } from "../../deploy/data/synthetic.ts";
import { openDataset } from "../../shared/data/dataset.ts";
import { type Compared, compare } from "../../worker/evaluation/comparison.ts";
import { renderComparison } from "../../worker/evaluation/page.ts";
import { pairPictures } from "../../worker/evaluation/pair-pictures.ts";
import { buildReport } from "../../worker/evaluation/report.ts";
import { chromiumProgram, type WatchedPage, watchedPage, whyNoChromium } from "./chromium.ts";
import { pretend, realData } from "./support.ts";

/** Where pictures of the page are kept, for people to look at; nowhere as a rule. */
const pictures = process.env.LOCKSTEP_SCREENSHOTS;

describe.skipIf(chromiumProgram === undefined)(`the comparison of two models in a real browser${whyNoChromium}`, () => {
  let scratch: string;
  let watched: WatchedPage;

  beforeAll(async () => {
    scratch = mkdtempSync(join(tmpdir(), "lockstep-comparison-"));
    const data = realData ?? join(scratch, "data");
    if (realData === null) await writeSynthetic(data, { train: 20, test: 400, classes: 10, side: 48 });
    const { test, classNames, close } = openDataset(data);
    const models: Compared[] = [];
    for (const [seed, name] of ["alexnet-6-epochs", "resnet-120-epochs"].entries()) {
      const predictions = pretend(test.labels, 10, seed + 1);
      const outDirectory = join(scratch, name);
      const given = {
        predictions,
        images: test,
        classNames,
        config: null,
        facts: {},
        steps: [],
        events: [],
        outDirectory,
      };
      const { json } = await buildReport(given);
      const [parameters, weightBytes, imagesPerSecond] = [1e6 * (seed + 1), 4e6 * (seed + 1), 300 / (seed + 1)];
      models.push({ name, json, predictions, parameters, weightBytes, imagesPerSecond, report: `${name}/report.html` });
    }
    const { json, examples } = compare(models);
    const shown = await pairPictures(models, examples, classNames, test);
    writeFileSync(join(scratch, "comparison.html"), renderComparison(json, shown, test.shape));
    close();
    watched = await watchedPage(join(scratch, "profile"));
  });
  afterAll(async () => {
    await watched?.close();
    rmSync(scratch, { recursive: true, force: true });
  });

  it.each([
    [1280, "light"],
    [390, "dark"],
  ] as const)(
    "%d pixels, %s: no errors, no requests, nothing wider than the screen, maps of both",
    async (width, scheme) => {
      const url = pathToFileURL(join(scratch, "comparison.html")).href;
      await watched.open(url, width, scheme);
      const { page } = watched;
      const state = await page.evaluate(async () => {
        await Promise.all([...document.images].map((image) => image.decode()));
        const root = document.documentElement;
        return {
          maps: document.querySelectorAll("figure img.map").length,
          pairs: document.querySelectorAll("figure.error").length,
          mute: [...document.images].filter((image) => image.alt === "" && !image.classList.contains("map")).length,
          wider: root.scrollWidth - root.clientWidth,
        };
      });
      expect(watched.said).toEqual([]);
      expect(watched.asked).toEqual([url]);
      expect(state).toEqual({ maps: 32, pairs: 16, mute: 0, wider: 0 });
      if (pictures !== undefined)
        await page.screenshot({ path: join(pictures, `comparison-${width}-${scheme}.png`), fullPage: true });
    },
  );
});
