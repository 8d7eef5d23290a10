import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { FastifyInstance } from "fastify";
import type { Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { RunHistory } from "../../coordinator/live/history.ts";
import { serveLive } from "../../coordinator/live/pages.ts";
import { servePages } from "../../shared/metrics/pages.ts";
import { createMetrics } from "../../shared/metrics/registry.ts";
import { ANY_PORT } from "../../shared/process/addresses.ts";
import type { LedgerEntry } from "../../shared/protocol/trailer.ts";
import { chromiumProgram, type WatchedPage, watchedPage, whyNoChromium } from "../evaluation/chromium.ts";
import { madeHistory, madeStatus } from "./made-status.ts";

/** Where pictures of the page are kept, for people to look at; nowhere as a rule. */
const pictures = process.env.LOCKSTEP_SCREENSHOTS;

let workers = 2;
let opened = Date.now();
let server: FastifyInstance;
let url: string;

beforeAll(async () => {
  const status = () => madeStatus(workers, (Date.now() - opened) / 1000);
  const pages = await servePages(createMetrics("coordinator"), "127.0.0.1", ANY_PORT, {
    collect: () => {},
    health: () => ({ ok: true, detail: {} }),
    more: (one) => serveLive(one, { status, history: madeHistory() }),
  });
  server = pages.server;
  url = `http://${pages.address}/`;
});
afterAll(() => server.close());

describe.skipIf(chromiumProgram === undefined)(`the live page in a real browser${whyNoChromium}`, () => {
  let profile: string;
  let watched: WatchedPage;
  let page: Page;

  beforeAll(async () => {
    profile = mkdtempSync(join(tmpdir(), "lockstep-live-"));
    watched = await watchedPage(profile);
    page = watched.page;
  });
  afterAll(async () => {
    await watched?.close();
    rmSync(profile, { recursive: true, force: true });
  });

  const open = async (count: number, width: number, colorScheme: "light" | "dark") => {
    workers = count;
    opened = Date.now();
    await watched.open(url, width, colorScheme);
    await expect.poll(() => page.locator("#rows tr").count()).toBe(count);
    await expect.poll(() => page.locator("#timeline line").count()).toBeGreaterThan(10);
  };

  it.each([
    [2, 1280, "light"],
    [2, 390, "dark"],
    [256, 1280, "dark"],
    [256, 390, "light"],
  ] as const)(
    "%d workers at %d pixels, %s: no errors, nothing from elsewhere, nothing wider than the screen",
    async (count, width, scheme) => {
      await open(count, width, scheme);
      expect(await page.locator("#where").textContent()).toBe("step 1234 of 3000, epoch 24, 23 min 33 s left");
      expect(await page.locator("#figures").textContent()).toContain("accuracy56.8 %");
      expect(await page.locator("#events li").first().textContent()).toContain("join: worker-1");
      const state = await page.evaluate(() => ({
        wider: document.documentElement.scrollWidth - document.documentElement.clientWidth,
        loss: document.querySelector("#loss path")!.getAttribute("d")!,
        mute: [...document.querySelectorAll("svg, #grid")].filter((one) => !one.getAttribute("aria-label")).length,
      }));
      expect(state.wider).toBe(0);
      expect(state.mute).toBe(0);
      // The step that was not finite is a gap, and no other.
      expect(state.loss.match(/M/g)).toHaveLength(2);
      expect(await page.locator("#grid").isVisible()).toBe(count > 2);
      if (count > 2) {
        expect(await page.locator("#grid .slow").count()).toBe(36);
        expect(await page.locator("#counts").textContent()).toBe("254 computing, 1 away, 1 loading");
      }
      if (pictures !== undefined)
        await page.screenshot({ path: join(pictures, `live-${count}-${width}.png`), fullPage: true });
      expect(watched.said).toEqual([]);
      expect(watched.asked.every((one) => one.startsWith(url))).toBe(true);
    },
  );

  it("orders the workers as asked", async () => {
    await open(256, 1280, "light");
    const first = () => page.locator("#rows tr").first().locator("td").first().textContent();
    expect(await first()).toBe("worker-0");
    await page.locator("#order").selectOption("slow");
    expect(await first()).toBe("worker-3");
    await page.locator("#order").selectOption("state");
    expect(await first()).toBe("worker-17");
  });

  it("counts each worker's images per second after a few of them", async () => {
    await open(2, 1280, "light");
    const speed = () => page.locator("#rows tr").first().locator("td").nth(2).textContent();
    await expect.poll(speed, { timeout: 20_000 }).toMatch(/^(39|40|41)\.\d$/);
  });

  it("says that the coordinator is away, and goes on when it is back", async () => {
    await open(2, 1280, "light");
    await page.route("**/status.json", (route) => route.abort());
    await expect.poll(() => page.locator("#phase").textContent()).toContain("does not answer");
    await page.unroute("**/status.json");
    await expect.poll(() => page.locator("#phase").textContent()).toBe("running");
  });
});

describe("what the live page is served with", () => {
  it("is a policy that lets nothing in from elsewhere", async () => {
    for (const path of ["", "page.js", "page.css", "status.json", "history.json"]) {
      const answer = await fetch(`${url}${path}`);
      expect(answer.status, path).toBe(200);
      const policy = answer.headers.get("content-security-policy");
      expect(policy, path).toContain("default-src 'none'");
      expect(policy, path).not.toMatch(/unsafe|https?:|\*/);
      expect(answer.headers.get("x-content-type-options"), path).toBe("nosniff");
      await answer.arrayBuffer();
    }
  });
});

describe("the course of a run", () => {
  const shards = (samples: number, correct: number) => [{ samples, correct }] as unknown as LedgerEntry["shards"];
  const filled = (steps: number, most: number) => {
    const history = new RunHistory(most);
    for (let step = 0; step < steps; step++) history.final({ step, loss: step, shards: shards(2, 1) }, 1000 * step);
    return history;
  };

  it.each([7, 8, 9, 100, 1000, 4097])("of %d steps keeps every step's images and loss in at most 8 points", (steps) => {
    const { points } = filled(steps, 8);
    expect(points.length).toBeLessThanOrEqual(8);
    expect(points.length).toBeGreaterThanOrEqual(Math.min(steps, 4));
    const sum = (field: "images" | "correct" | "steps") => points.reduce((total, point) => total + point[field], 0);
    expect([sum("images"), sum("correct"), sum("steps")]).toEqual([2 * steps, steps, steps]);
    expect(points.reduce((total, point) => total + point.loss!, 0)).toBe(steps * (steps - 1));
    expect(points.at(-1)).toMatchObject({ step: steps - 1, time: 1000 * (steps - 1) });
  });

  it("forgets what a fall-back took away", () => {
    const history = filled(6, 8);
    history.truncate(4);
    expect(history.points.map(({ step }) => step)).toEqual([0, 1, 2, 3]);
  });
});
