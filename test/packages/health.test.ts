import { spawn } from "node:child_process";
import { describe, expect, it, onTestFinished } from "vitest";
import { servePages } from "../../shared/metrics/pages.ts";
import { createMetrics } from "../../shared/metrics/registry.ts";
import { ANY_PORT } from "../../shared/process/addresses.ts";
import { fileOf } from "../monitoring/names.ts";
import { secured } from "../security/support.ts";

/** Exit code of the containers' health check. */
const check = (url: string): Promise<number | null> =>
  new Promise((resolve, reject) => {
    const env = { ...process.env, LOCKSTEP_HEALTH: url };
    const child = spawn(process.execPath, [fileOf("deploy/images/health.mjs")], { env, stdio: "ignore" });
    child.once("error", reject);
    child.once("close", resolve);
  });

describe("the health check of containers", () => {
  it("says by its exit code what pages beyond loopback say without a token", async () => {
    const { security } = await secured();
    let ok = true;
    const { server, address } = await servePages(createMetrics("worker"), "127.0.0.1", ANY_PORT, {
      ...{ collect: () => {}, health: () => ({ ok, detail: {} }) },
      guard: { trust: security.trust, token: () => null },
    });
    onTestFinished(() => server.close());
    expect(await check(`https://${address}/healthz`)).toBe(0);
    ok = false;
    expect(await check(`https://${address}/healthz`)).toBe(1);
    // Somebody else's answer is no health.
    ok = true;
    expect(await check(`https://${address}/metrics`)).toBe(1);
    expect(await check(`http://${address}/healthz`)).toBe(1);
    await server.close();
    expect(await check(`https://${address}/healthz`)).toBe(1);
  });
});
