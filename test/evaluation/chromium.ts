import { existsSync } from "node:fs";
import { type BrowserContext, chromium } from "playwright-core";

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

/** A browser with an empty profile, which the caller closes. */
export const openBrowser = (profile: string): Promise<BrowserContext> =>
  chromium.launchPersistentContext(profile, {
    executablePath: chromiumProgram!,
    headless: true,
    args: FLAGS,
    // Its launcher is a script that wants the system's tools, whatever the tests have on PATH.
    env: { ...process.env, PATH: "/usr/local/bin:/usr/bin:/bin" } as Record<string, string>,
  });
