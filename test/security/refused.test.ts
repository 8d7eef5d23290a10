import { connect } from "node:net";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { RunMetrics } from "../../coordinator/run-metrics.ts";
import type { Config } from "../../shared/config/schema.ts";
import { splitAddress } from "../../shared/process/addresses.ts";
import { memberClient, unary } from "../../shared/rpc/clients.ts";
import { bindingOf } from "../../shared/rpc/service.ts";
import { RefusalLog } from "../../shared/security/refusal-log.ts";
import { MemberServer } from "../../worker/exchange/member-server.ts";
import { A, B, dial, failure, greet, secured, status } from "./support.ts";

describe("what is refused is heard of by its code", () => {
  it("at a coordinator: connections, requests to join, calls and sessions, and nothing that was taken", async () => {
    const { address, token, join, refusals, refusedCalls } = await secured();
    const codes = () => [...refusals.map(({ code }) => code), ...refusedCalls];
    const trust = await join(A);
    await status(dial(address, trust));
    expect(codes()).toEqual([]);
    const { host, port } = splitAddress(address)!;
    const plain = connect({ host, port }, () => plain.write("GET / HTTP/1.1\r\n\r\n"));
    onTestFinished(() => void plain.destroy());
    plain.on("error", () => {});
    await vi.waitFor(() => expect(codes()).toEqual(["LS_PLAIN_TEXT"]));
    expect(await failure(join(A, { ...token(), secret: "0".repeat(32) }))).toBe("LS_TOKEN_UNKNOWN");
    await vi.waitFor(() => expect(codes()).toEqual(["LS_PLAIN_TEXT", "LS_TOKEN_UNKNOWN"]));
    const stop = unary((done) => dial(address, trust).control({ action: "stop", target: "", detail: "" }, {}, done));
    expect(await failure(stop)).toBe("LS_NOT_ALLOWED");
    await vi.waitFor(() => expect(refusedCalls).toEqual(["LS_NOT_ALLOWED"]));
    greet(address, trust, B);
    await vi.waitFor(() => expect(refusedCalls).toEqual(["LS_NOT_ALLOWED", "LS_WRONG_INCARNATION"]));
  });

  it("at a member", async () => {
    const heard: string[] = [];
    const server = new MemberServer((code) => heard.push(code));
    const address = await server.start(bindingOf("127.0.0.1"));
    onTestFinished(() => server.close());
    const client = memberClient(address);
    onTestFinished(() => client.close());
    const pull = client.pullState({ run: "r", step: 0, from: 0, to: 1, snapshot: false });
    pull.on("error", () => {});
    await vi.waitFor(() => expect(heard).toEqual(["LS_NOT_READY"]));
  });

  it("and fills no log: some of a kind are said, then one now and then, with how many there were", () => {
    const said: { readonly code: string; readonly unsaid: number }[] = [];
    const log = new RefusalLog((refusal) => said.push(refusal));
    const refuse = (code: `LS_${string}`, now: number) => log.add({ code, why: "", from: "10.0.0.9" }, now);
    for (let n = 0; n < 1000; n++) refuse("LS_PLAIN_TEXT", 0);
    expect(said).toHaveLength(20);
    refuse("LS_HANDSHAKE", 0);
    expect(said.at(-1)).toMatchObject({ code: "LS_HANDSHAKE", unsaid: 0 });
    refuse("LS_PLAIN_TEXT", 5000);
    expect(said.at(-1)).toMatchObject({ code: "LS_PLAIN_TEXT", unsaid: 980 });
    refuse("LS_PLAIN_TEXT", 5001);
    expect(said).toHaveLength(22);
  });

  it("and counted under codes that the table names, and under no others", async () => {
    const config = {
      ...{ runId: "r", recipe: { steps: 1, shards: 1, recipe: "quick", model: { name: "m" } } },
      place: { workers: 1, minWorkers: 1, checkpoint: { everySteps: 1 } },
    } as unknown as Config;
    const run = new RunMetrics(config);
    const codes = ["LS_TOKEN_USED", "LS_TOKEN_USED", "LS_NOBODY_KNOWS", ""];
    for (const code of codes) run.refused(code);
    const text = await run.metrics.registry.getSingleMetricAsString("lockstep_refused_total");
    expect(text).toContain('lockstep_refused_total{code="LS_TOKEN_USED"} 2');
    expect(text).toContain('lockstep_refused_total{code="other"} 2');
    expect(text).not.toContain("NOBODY");
  });
});
