import { existsSync } from "node:fs";
import { type ConsoleMessage, chromium, type Page } from "playwright-core";

/** A Chromium of this machine, or undefined. */
export const chromiumProgram = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(
  existsSync,
);
/** Ends a test's name where there is none. */
export const whyNoChromium = chromiumProgram === undefined ? " (skipped: no Chromium on this machine)" : "";

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** A page of a browser of its own, what went to its console and whom it asked since it was opened last. */
export interface WatchedPage {
  readonly page: Page;
  readonly said: string[];
  readonly asked: string[];
  open(url: string, width: number, colorScheme: "light" | "dark"): Promise<void>;
  close(): Promise<void>;
}

/**
 * Starts a browser with an empty profile, which the caller removes.
 * @param counts whether a message on the console is one to be kept
 */
export async function watchedPage(
  profile: string,
  counts: (message: ConsoleMessage) => boolean = () => true,
): Promise<WatchedPage> {
  const browser = await chromium.launchPersistentContext(profile, {
    executablePath: chromiumProgram!,
    headless: true,
    args: FLAGS,
    // Its launcher is a script that wants the system's tools, whatever the tests have on PATH.
    env: { ...process.env, PATH: "/usr/local/bin:/usr/bin:/bin" } as Record<string, string>,
  });
  const page = browser.pages()[0] ?? (await browser.newPage());
  const said: string[] = [];
  const asked: string[] = [];
  page.on("console", (message) => void (counts(message) && said.push(message.text())));
  page.on("pageerror", (error) => void said.push(error.message));
  page.on("request", (request) => void (request.url().startsWith("data:") || asked.push(request.url())));
  return {
    page,
    said,
    asked,
    open: async (url, width, colorScheme) => {
      said.length = 0;
      asked.length = 0;
      await page.setViewportSize({ width, height: 900 });
      await page.emulateMedia({ colorScheme });
      await page.goto(url);
    },
    close: () => browser.close(),
  };
}
