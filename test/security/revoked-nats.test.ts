import { spawn } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { connect } from "nats";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { NatsKeys } from "../../coordinator/security/nats-keys.ts";
import { LOCAL_NETWORK } from "../../deploy/up/network-options.ts";
import { secureNats } from "../../deploy/up/secure-nats.ts";
import { Broadcaster } from "../../shared/broadcast/broadcaster.ts";
import { natsFileSchema, natsOptions } from "../../shared/broadcast/nats-file.ts";
import { needsNats, program } from "../broadcast/support.ts";
import { scratchDirectory } from "./support.ts";

async function running() {
  const directory = scratchDirectory();
  mkdirSync(join(directory, "security"), { recursive: true });
  const { file, url } = await secureNats(directory, "r", "127.0.0.1", LOCAL_NETWORK);
  const child = spawn(program!, ["-c", file], { stdio: "ignore" });
  onTestFinished(() => void child.kill("SIGKILL"));
  const keys = NatsKeys.open(directory, url)!;
  const broadcaster = new Broadcaster(url, "r", undefined, keys.access);
  onTestFinished(() => broadcaster.close());
  await vi.waitFor(() => expect(broadcaster.connected).toBe(true), 10_000);
  return { directory, url, child, keys, broadcaster };
}

describe.skipIf(needsNats !== "")(`NATS, when a worker was revoked ${needsNats}`, () => {
  it("drops whoever comes by the password that the worker knew, and the others come back by the next one", async () => {
    const { directory, url, keys, broadcaster } = await running();
    const known = keys.access;
    const revoked = await connect({ servers: url, ...natsOptions(known), reconnect: false });
    const gone = revoked.closed();
    expect(keys.renew()).toBe(true);
    expect(keys.access).toEqual({ ...known, password: expect.stringMatching(/^[0-9a-f]{32}$/) });
    expect(keys.access.password).not.toBe(known.password);
    const file = natsFileSchema.parse(JSON.parse(readFileSync(join(directory, "security", "nats.json"), "utf8")));
    expect(file.worker.password).toBe(keys.access.password);
    // The server does not know of it yet, and neither does the worker that stays.
    keys.reload();
    expect(String(await gone)).toMatch(/authorization|authentication/i);
    await expect(connect({ servers: url, ...natsOptions(known), timeout: 2000 })).rejects.toThrow(/authorization/i);
    await vi.waitFor(() => expect(broadcaster.connected).toBe(false), 10_000);
    broadcaster.renew(keys.access);
    await vi.waitFor(() => expect(broadcaster.connected).toBe(true), 15_000);
  }, 60_000);

  it("keeps its password where the server is gone, and says so", async () => {
    const { child, keys } = await running();
    const known = keys.access;
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await ended;
    expect(keys.renew()).toBe(false);
    expect(keys.access).toEqual(known);
    keys.reload();
  }, 30_000);
});
