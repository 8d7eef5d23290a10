import { spawn } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { request } from "node:https";
import { join } from "node:path";
import * as grpc from "@grpc/grpc-js";
import { connect } from "nats";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { LOCAL_NETWORK } from "../../deploy/up/network-options.ts";
import { Probe } from "../../deploy/up/probe.ts";
import { secureNats } from "../../deploy/up/secure-nats.ts";
import { Broadcaster } from "../../shared/broadcast/broadcaster.ts";
import { listen } from "../../shared/broadcast/listener.ts";
import { natsAccess, natsFileSchema, natsOptions, watchAccess } from "../../shared/broadcast/nats-file.ts";
import { servePages } from "../../shared/metrics/pages.ts";
import { createMetrics } from "../../shared/metrics/registry.ts";
import { ANY_PORT } from "../../shared/process/addresses.ts";
import { channelOptions } from "../../shared/rpc/service.ts";
import { Gate, type Refusal } from "../../shared/security/gate.ts";
import { parseLink } from "../../shared/security/join-link.ts";
import type { Peer } from "../../shared/security/names.ts";
import { Trust } from "../../shared/security/trust.ts";
import { renewCertificate } from "../../worker/coordinator-calls.ts";
import { keepRenewed } from "../../worker/security/renewing.ts";
import { needsNats, program } from "../broadcast/support.ts";
import { A, B, dial, failure, greet, HOUR, joiner, scratchDirectory, secured, status } from "./support.ts";

describe("a certificate", () => {
  it("is renewed by itself, for a new key, and calls go on with it", { timeout: 20_000 }, async () => {
    const { address, security, token } = await secured({ lifetime: 6000 });
    const { joinOnce } = await import("../../worker/security/obtain.ts");
    const { credentials } = await joinOnce(address, token(), joiner);
    const trust = new Trust(credentials);
    const client = dial(address, trust);
    const end = keepRenewed({
      ...{ trust, incarnation: A, log: () => {} },
      ask: (wanted) => renewCertificate(() => client, wanted),
      rejoin: () => Promise.reject(new Error("not needed")),
    });
    onTestFinished(end);
    await vi.waitFor(() => expect(trust.current.certificate).not.toBe(credentials.certificate), 15_000);
    expect(trust.current.key).not.toBe(credentials.key);
    expect(JSON.parse((await status(dial(address, trust))).json)).toEqual({ here: true });
    security.close();
  });

  it("that has ended is not believed any more", async () => {
    const { address, security, refusals } = await secured();
    const authority = await security.files.authority("r");
    const trust = new Trust(await authority.equip({ role: "worker", name: A }, -1000));
    expect(await failure(status(dial(address, trust)))).not.toBe("no failure");
    await vi.waitFor(() => expect(refusals.map(({ code }) => code)).toContain("LS_UNKNOWN_AUTHORITY"));
  });

  it("of whoever asks for hours is read again once it has ended", { timeout: 20_000 }, async () => {
    const { address, directory, security } = await secured();
    writeFileSync(join(directory, "endpoints.json"), JSON.stringify({ coordinator: address, tls: true }));
    const authority = await security.files.authority("r");
    const operator = async (lifetime: number) =>
      security.files.writeOperator(new Trust(await authority.equip({ role: "operator", name: "operator" }, lifetime)));
    const probe = Probe.ofDirectory(directory, null);
    onTestFinished(() => probe.close());
    await operator(-1000);
    await expect(probe.control("token-list", "", "")).rejects.toThrow();
    await operator(HOUR);
    expect(await probe.control("token-list", "", "")).toBe("[]");
  });

  it("that was revoked loses its connections and gets no others, nor does anybody by its token", async () => {
    const { address, access, security, token, join: enter, refusals } = await secured();
    const [mine, others] = [token(), token()];
    const [bad, good] = [await enter(A, mine), await enter(B, others)];
    const [heardBad, heardGood] = [greet(address, bad, A), greet(address, good, B)];
    await vi.waitFor(() => expect([heardBad, heardGood]).toEqual([["access"], ["access"]]));
    const known = security.httpToken;
    expect(access.control({ action: "worker-revoke", target: A, detail: "" })).toContain(mine.id);
    expect(security.httpToken).not.toBe(known);
    await vi.waitFor(() => expect(heardBad).toContain("rejected"));
    await vi.waitFor(() => expect(heardGood).toEqual(["access", "access"]));
    expect(await failure(status(dial(address, bad)))).not.toBe("no failure");
    await vi.waitFor(() => expect(refusals.map(({ code }) => code)).toContain("LS_REVOKED"));
    expect(await failure(enter(A, mine))).toBe("LS_TOKEN_REVOKED");
    expect(JSON.parse((await status(dial(address, good))).json)).toEqual({ here: true });
  });

  it("is revoked also while its worker has no session", async () => {
    const { address, access, join: enter } = await secured();
    const trust = await enter(A);
    expect(access.control({ action: "worker-revoke", target: A, detail: "" })).toBe(`${A} (${A}) was revoked`);
    expect(await failure(status(dial(address, trust)))).not.toBe("no failure");
    expect(() => access.control({ action: "worker-revoke", target: "nobody", detail: "" })).toThrow(
      /no worker "nobody"/,
    );
  });

  it("that was revoked does not keep the other workers of its machine from coming back", async () => {
    const { address, access, links, security, join: enter } = await secured();
    expect(links.announce(true, true)).toContain("/ls1-");
    expect(links.announce(false, false), "for a log").not.toContain("ls1-");
    const local = () => parseLink(security.files.readLine("local-join")!).token!;
    const before = local();
    const heard = greet(address, await enter(A, before), A);
    await vi.waitFor(() => expect(heard).toEqual(["access"]));
    access.control({ action: "worker-revoke", target: A, detail: "" });
    expect(await failure(enter(B, before))).toBe("LS_TOKEN_REVOKED");
    expect(await failure(enter(B, local()))).toBe("no failure");
  });
});

describe("a directory to share", () => {
  it("holds a link that does not expire, and what asks for pages, for the owner and its group, and nothing else", async () => {
    const share = join(scratchDirectory(), "share");
    const { access, address, links, security, join: enter } = await secured({ share });
    links.announce(true, false);
    const shared = (name: string, directory = share) => readFileSync(join(directory, name), "utf8").trim();
    expect(readdirSync(share).sort()).toEqual(["ca.pem", "http-token", "join"]);
    for (const name of readdirSync(share)) expect(statSync(join(share, name)).mode & 0o777).toBe(0o640);
    expect(shared("ca.pem")).toBe(security.trust.current.authority.trim());
    expect(shared("http-token")).toBe(security.httpToken);
    const token = parseLink(shared("join")).token!;
    expect(security.tokens.list.find(({ id }) => id === token.id)).toMatchObject({ expires: null, uses: null });
    // A worker that came by it is thrown out: the others' link and token are new ones.
    const before = { join: shared("join"), token: security.httpToken };
    const heard = greet(address, await enter(A, token), A);
    await vi.waitFor(() => expect(heard).toEqual(["access"]));
    access.control({ action: "worker-revoke", target: A, detail: "" });
    expect(shared("join")).not.toBe(before.join);
    expect(shared("http-token")).toBe(security.httpToken);
    expect(security.httpToken).not.toBe(before.token);
    expect(await failure(enter(B, parseLink(shared("join")).token!))).toBe("no failure");
  });
});

describe("a member's port", () => {
  it("takes nobody without a certificate, and nobody of another run", async () => {
    const [mine, other] = [await secured(), await secured()];
    const refusals: Refusal[] = [];
    const gone = new Set<Peer["incarnation"]>();
    const gate = new Gate({
      ...{ trust: await mine.join(A), members: new grpc.Server(channelOptions()), strangers: null },
      isRevoked: ({ incarnation }) => gone.has(incarnation),
      onRefused: (refusal) => refusals.push(refusal),
    });
    onTestFinished(() => gate.close());
    const address = `127.0.0.1:${await gate.listen("127.0.0.1", 0)}`;
    const call = (trust: Trust | null) => failure(status(dial(address, trust)));
    await call(null);
    await call(await other.join(B));
    await vi.waitFor(() => expect(refusals.map(({ code }) => code)).toContain("LS_PLAIN_TEXT"));
  });
});

describe("pages beyond loopback", () => {
  it("take TLS, and the token as a bearer's or as a password", async () => {
    const { security } = await secured();
    const { trust } = security;
    const { server, address } = await servePages(createMetrics("coordinator"), "127.0.0.1", ANY_PORT, {
      ...{ collect: () => {}, health: () => ({ ok: true, detail: { step: 7 } }) },
      guard: { trust, token: () => security.httpToken },
    });
    onTestFinished(() => server.close());
    const get = async (authorization?: string) => (await ask("/metrics", authorization)).status;
    const ask = (path: string, authorization?: string): Promise<{ readonly status?: number; readonly body: string }> =>
      new Promise((resolve, reject) => {
        const options = { ca: trust.current.authority, servername: "coordinator.lockstep" };
        const headers = authorization === undefined ? {} : { authorization };
        request(`https://${address}${path}`, { ...options, headers }, (reply) => {
          let body = "";
          reply.setEncoding("utf8").on("data", (text) => {
            body += text;
          });
          reply.on("end", () => resolve({ status: reply.statusCode!, body }));
        })
          .on("error", reject)
          .end();
      });
    const basic = (text: string) => `Basic ${Buffer.from(text).toString("base64")}`;
    expect(await get()).toBe(401);
    expect(await get("Bearer wrong")).toBe(401);
    expect(await get(basic("me:wrong"))).toBe(401);
    expect(await get(`Bearer ${security.httpToken}`)).toBe(200);
    expect(await get(basic(`me:${security.httpToken}`))).toBe(200);
    await expect(fetch(`http://${address}/metrics`)).rejects.toThrow();
    // Whoever keeps the process running may ask whether it is well, and hears no more.
    expect(await ask("/healthz")).toEqual({ status: 200, body: '{"ok":true}' });
    expect(await ask("/healthz?x=1")).toMatchObject({ status: 401 });
    expect(await ask("/healthz", "Bearer wrong")).toMatchObject({ status: 401 });
    expect(await ask("/healthz", `Bearer ${security.httpToken}`)).toEqual({
      status: 200,
      body: '{"ok":true,"step":7}',
    });
  });
});

describe.skipIf(needsNats !== "")(`NATS of a secured run ${needsNats}`, () => {
  it("takes workers' broadcasts and lets watchers listen, with passwords alone, and neither does the other's part", async () => {
    const directory = scratchDirectory();
    mkdirSync(join(directory, "security"), { recursive: true });
    const { file, url } = await secureNats(directory, "r", "127.0.0.1", LOCAL_NETWORK);
    const child = spawn(program!, ["-c", file], { stdio: "ignore" });
    onTestFinished(() => void child.kill("SIGKILL"));
    const nats = join(directory, "security", "nats.json");
    const broadcaster = new Broadcaster(url, "r", undefined, natsAccess(nats, url));
    onTestFinished(() => broadcaster.close());
    await vi.waitFor(() => expect(broadcaster.connected).toBe(true), 10_000);
    const stop = new AbortController();
    const { access } = watchAccess(join(directory, "security", "watch.json"));
    const event = { v: 1, run: "r", term: 1, time: new Date(0).toISOString(), type: "waiting", detail: "x" };
    const options = { url, access, run: "r", signal: stop.signal };
    const subscribed = () => broadcaster.publishEvent(event as never);
    for await (const news of listen({ ...options, onSubscribed: subscribed })) {
      expect(news.kind).toBe("event");
      stop.abort();
    }
    await expect(connect({ servers: url, tls: { ca: access.authority }, timeout: 2000 })).rejects.toThrow(
      /authorization/i,
    );
    const { worker } = natsFileSchema.parse(JSON.parse(readFileSync(nats, "utf8")));
    const asWorker = await connect({ servers: url, ...natsOptions({ ...worker, authority: access.authority }) });
    onTestFinished(() => asWorker.close());
    const heard = asWorker.subscribe("lockstep.v1.>");
    await expect(heard[Symbol.asyncIterator]().next()).rejects.toThrow(/permissions/i);
  });
});
