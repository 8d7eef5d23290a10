import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type { Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { writeSynthetic } from "../../deploy/data/synthetic.ts";
import { openDataset } from "../../shared/data/dataset.ts";
import { buildReport } from "../../worker/evaluation/report.ts";
import { chromiumProgram, type WatchedPage, watchedPage, whyNoChromium } from "./chromium.ts";
import { madeConfig, madeEvents, madeFacts, madeSteps } from "./made-run.ts";
import { pretend, realData } from "./support.ts";

/** Where pictures of the page are kept, for people to look at; nowhere as a rule. */
const pictures = process.env.LOCKSTEP_SCREENSHOTS;

describe.skipIf(chromiumProgram === undefined)(`the page in a real browser${whyNoChromium}`, () => {
  let scratch: string;
  let watched: WatchedPage;
  let page: Page;

  beforeAll(async () => {
    scratch = mkdtempSync(join(tmpdir(), "lockstep-browser-"));
    const data = realData ?? join(scratch, "data");
    if (realData === null) await writeSynthetic(data, { train: 20, test: 400, classes: 10, side: 48 });
    const dataset = openDataset(data);
    await buildReport({
      predictions: pretend(dataset.test.labels),
      images: dataset.test,
      classNames: dataset.classNames,
      config: madeConfig,
      facts: madeFacts,
      steps: madeSteps,
      events: madeEvents,
      outDirectory: join(scratch, "report"),
    });
    dataset.close();
    watched = await watchedPage(join(scratch, "profile"));
    page = watched.page;
  });
  afterAll(async () => {
    await watched?.close();
    rmSync(scratch, { recursive: true, force: true });
  });

  const url = () => pathToFileURL(join(scratch, "report", "report.html")).href;
  const open = (width: number, colorScheme: "light" | "dark") => watched.open(url(), width, colorScheme);

  it.each([
    [1280, "light"],
    [1280, "dark"],
    [390, "light"],
    [320, "dark"],
  ] as const)(
    "%d pixels, %s: no errors, no requests, nothing wider than the screen, all pictures drawn",
    async (width, scheme) => {
      await open(width, scheme);
      const state = await page.evaluate(async () => {
        const images = [...document.images];
        await Promise.all(images.map((image) => image.decode()));
        const root = document.documentElement;
        return { images: images.length, wider: root.scrollWidth - root.clientWidth };
      });
      expect(watched.said).toEqual([]);
      expect(watched.asked).toEqual([url()]);
      expect(state.wider).toBe(0);
      expect(state.images).toBeGreaterThan(100);
      if (pictures !== undefined)
        await page.screenshot({ path: join(pictures, `report-${width}-${scheme}.png`), fullPage: true });
    },
  );

  it.each(["light", "dark"] as const)("in %s, text has the contrast that WCAG 2.2 AA asks for", async (scheme) => {
    await open(1280, scheme);
    const poor = await page.evaluate(() => {
      const channels = (colour: string) => colour.match(/[\d.]+/g)!.map(Number);
      const light = (colour: string) => {
        const [r, g, b] = channels(colour).map((value) => {
          const share = value / 255;
          return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r! + 0.7152 * g! + 0.0722 * b!;
      };
      const ground = (element: Element | null): string => {
        if (element === null) return "rgb(255, 255, 255)";
        const colour = getComputedStyle(element).backgroundColor;
        const alpha = channels(colour)[3] ?? 1;
        return colour.startsWith("rgb") && alpha === 1 ? colour : ground(element.parentElement);
      };
      const poor: string[] = [];
      for (const element of document.querySelectorAll(
        "h1,h2,h3,h4,p,dt,dd,td,th,a,summary,figcaption,span,small,code,b,em",
      )) {
        const text = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent!.trim() !== "");
        if (!text || element.closest("nav, [hidden]") !== null) continue;
        const [a, b] = [light(getComputedStyle(element).color), light(ground(element))];
        const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (contrast < 4.5) poor.push(`${element.tagName} ${element.className} ${contrast.toFixed(2)}`);
      }
      return [...new Set(poor)];
    });
    expect(poor).toEqual([]);
  });

  it("says every picture and drawing in words, and has one heading above all others", async () => {
    await open(1280, "light");
    const state = await page.evaluate(() => ({
      mute: [...document.images].filter((image) => image.alt === "" && !image.classList.contains("map")).length,
      drawings: [...document.querySelectorAll("[role=img]")].every((drawing) => drawing.getAttribute("aria-label")),
      bare: [...document.querySelectorAll("svg:not([aria-hidden])")].length,
      headings: document.querySelectorAll("h1").length,
      lang: document.documentElement.lang,
      lost: [...document.querySelectorAll<HTMLAnchorElement>("a[href^='#']")].filter(
        (link) => document.querySelector(link.getAttribute("href")!) === null,
      ).length,
    }));
    expect(state).toEqual({ mute: 0, drawings: true, bare: 0, headings: 1, lang: "en", lost: 0 });
  });

  it("is used by keyboard: skip link, table, strength of the maps, one class alone", async () => {
    await open(1280, "light");
    await page.keyboard.press("Tab");
    expect(await page.evaluate(() => document.activeElement?.className)).toBe("skip");
    await page.locator("#accuracy summary").focus();
    await page.keyboard.press("Enter");
    expect(await page.locator("#accuracy details table").isVisible()).toBe(true);
    await page.locator("#strength").focus();
    await page.keyboard.press("Home");
    await expect
      .poll(() =>
        page
          .locator("#pictures .map")
          .first()
          .evaluate((map) => getComputedStyle(map).opacity),
      )
      .toBe("0");
    await page.locator("#filter").selectOption({ index: 1 });
    expect(await page.locator("article.class:visible").count()).toBe(1);
    expect(watched.said).toEqual([]);
  });
});
