import { afterEach, describe, expect, it } from "vitest";
import { servePages } from "../../shared/metrics/pages.ts";
import { createMetrics } from "../../shared/metrics/registry.ts";
import { ANY_PORT } from "../../shared/process/addresses.ts";

const open: { close(): Promise<unknown> }[] = [];
afterEach(async () => {
  for (const server of open.splice(0)) await server.close();
});

async function serve(health: () => { ok: boolean; detail: object }, ports = ANY_PORT) {
  const metrics = createMetrics("worker");
  let scrapes = 0;
  const collect = () => metrics.set("lockstep_worker_step", ++scrapes);
  const { server, address } = await servePages(metrics, "127.0.0.1", ports, { collect, health });
  open.push(server);
  return `http://${address}`;
}

describe("the pages of a process", () => {
  it("serve metrics in the text format, collected at the moment of the scrape", async () => {
    const url = await serve(() => ({ ok: true, detail: {} }));
    await fetch(`${url}/metrics`);
    const answer = await fetch(`${url}/metrics`);
    expect(answer.headers.get("content-type")).toContain("text/plain; version=0.0.4");
    expect(await answer.text()).toContain("\nlockstep_worker_step 2\n");
  });

  it("tell health by status code, and why", async () => {
    let ok = true;
    const url = await serve(() => ({ ok, detail: { step: 7 } }));
    const well = await fetch(`${url}/healthz`);
    expect([well.status, await well.json()]).toEqual([200, { ok: true, step: 7 }]);
    ok = false;
    const ill = await fetch(`${url}/healthz`);
    expect([ill.status, await ill.json()]).toEqual([503, { ok: false, step: 7 }]);
  });

  it("take the first port of their range that is free", async () => {
    const well = () => ({ ok: true, detail: {} });
    const taken = Number(new URL(await serve(well)).port);
    const url = await serve(well, { from: taken, to: Math.min(taken + 50, 65_535) });
    expect(Number(new URL(url).port)).toBeGreaterThan(taken);
    expect((await fetch(`${url}/healthz`)).status).toBe(200);
    await expect(serve(well, { from: taken, to: taken })).rejects.toThrow("EADDRINUSE");
  });

  it("answer what they do not have with 404", async () => {
    const url = await serve(() => ({ ok: true, detail: {} }));
    expect((await fetch(`${url}/`)).status).toBe(404);
  });
});
