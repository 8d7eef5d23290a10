import { writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { expect, test } from "vitest";
import { DialBack } from "../../coordinator/dial-back.ts";
import { dialPort } from "../../deploy/peer/dial.ts";
import { examinePeer } from "../../deploy/peer/examine-peer.ts";
import { splitAddress } from "../../shared/process/addresses.ts";
import type { CoordinatorMessage } from "../../shared/protocol/messages.ts";
import type { Incarnation } from "../../shared/protocol/view.ts";
import { type ReachReply, unary } from "../../shared/rpc/clients.ts";
import { formatLink } from "../../shared/security/join-link.ts";
import { lockstep } from "../up/support.ts";
import { A, B, dial, failure, HOUR, scratchDirectory, secured } from "./support.ts";

const RUN = { run: "r", term: 1, phase: "train", step: 3, steps: 9, stepsPerEpoch: 3 };
const worker = (name: string, address: string) => ({ name, address, incarnation: A });

/** A port of this machine on which nobody listens. */
async function deadPort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  const { port } = server.address() as { port: number };
  await new Promise((closed) => server.close(closed));
  return port;
}

test("both ways are fine: the coordinator is reached, and dials back; its workers and what lacks are named", async () => {
  const workers = [worker("gone", `127.0.0.1:${await deadPort()}`)];
  const { address, token, hellos } = await secured({}, { ...RUN, workers });
  const findings = await examinePeer({ address, token: token() });
  expect(findings).toMatchObject([
    { what: "coordinator", state: "fine", detail: expect.stringContaining(address) },
    { what: "run", state: "fine", detail: "r, step 3 of 9" },
    {
      what: "the way back",
      state: "fine",
      detail: expect.stringMatching(/^the coordinator reaches this machine at 127\.0\.0\.1:\d+$/),
    },
    {
      what: "workers",
      state: "missing",
      detail: expect.stringMatching(/^1 of 1 are not reached: gone at 127\.0\.0\.1:\d+: .*ECONNREFUSED/),
    },
  ]);
  // It has joined nobody's work.
  expect(hellos).toEqual([]);
});

test("a machine that is not reached from there is named with the address that was tried", async () => {
  const { address, token } = await secured({}, { ...RUN, workers: [] });
  // It listens on one address and says another one, as behind a translation that does not let it in.
  const findings = await examinePeer({ address, token: token() }, { listen: "127.0.0.1", advertise: "127.0.0.9" });
  expect(findings.find(({ what }) => what === "the way back")).toMatchObject({
    state: "missing",
    detail: expect.stringMatching(/not all reach this machine at 127\.0\.0\.9:\d+: the coordinator: .*ECONNREFUSED/),
    mend: expect.stringContaining("firewall"),
  });
});

test("an address that nobody can dial is mended by what is wrong with it, not by firewalls", async () => {
  const { address, token } = await secured({}, { ...RUN, workers: [] });
  const findings = await examinePeer({ address, token: token() }, { advertise: "0.0.0.0" });
  const lack = findings.find(({ state }) => state === "missing");
  expect(lack).toMatchObject({ detail: expect.stringContaining("--advertise 0.0.0.0 is no address") });
  expect(lack?.mend).not.toContain("firewall");
});

test("without a token one way is examined, and a token that does not count is named", async () => {
  const { address, token, security } = await secured({}, { ...RUN, workers: [] });
  const far = await examinePeer({ address: address.replace("127.0.0.1", "127.1"), token: null });
  expect(far).toMatchObject([
    { what: "coordinator", state: "fine" },
    { what: "the way back", state: "optional", mend: expect.stringContaining("lockstep://host:port/token") },
  ]);
  const wrong = { ...token(), secret: "0".repeat(32) };
  expect(await examinePeer({ address, token: wrong })).toMatchObject([
    { what: "coordinator", state: "fine" },
    { what: "token", state: "missing", detail: expect.stringMatching(/token/i) },
  ]);
  const other = { ...token(), authority: "0".repeat(64) };
  expect((await examinePeer({ address, token: other }))[1]).toMatchObject({
    what: "token",
    detail: expect.stringContaining("is not the run that the token is for"),
  });
  expect(security).toBeDefined();
});

test("a port that nobody has, and a name that is not known", async () => {
  const port = await deadPort();
  expect(await examinePeer({ address: `127.0.0.1:${port}`, token: null })).toMatchObject([
    { what: "coordinator", state: "missing", detail: `127.0.0.1:${port}: nothing listens there` },
  ]);
  expect(await dialPort("name.invalid", 1)).toMatchObject({ kind: "failed", why: expect.stringMatching(/its name/) });
});

test("a coordinator dials what looks like an address, with its workers, for some at a time", async () => {
  let answer = (_: string | null) => {};
  const dialled: string[] = [];
  const sent: [to: string, message: CoordinatorMessage][] = [];
  const back = new DialBack({
    dial: (address) => {
      dialled.push(address);
      return new Promise((resolve) => {
        answer = resolve;
      });
    },
    workers: () => [
      { incarnation: A, name: "a" },
      { incarnation: B, name: "b" },
    ],
    send: (to, message) => sent.push([to, message]),
    nats: "nats://h:4222",
  });
  const incarnation = "0123456789abcdef" as Incarnation;
  for (const address of ["", "host", "host:99999", "[::1:5", `${"a".repeat(400)}:1`])
    await expect(back.ask({ address, incarnation }, null)).rejects.toMatchObject({ code: "LS_MALFORMED" });
  await expect(back.ask({ address: "h:1", incarnation: "x" }, null)).rejects.toMatchObject({ code: "LS_MALFORMED" });
  expect(sent).toEqual([]);
  const asked = [1, 2, 3, 4].map((port) => back.ask({ address: `h:${port}`, incarnation }, null));
  expect(sent.slice(-2)).toEqual([
    [A, { kind: "dial", incarnation, address: "h:4" }],
    [B, { kind: "dial", incarnation, address: "h:4" }],
  ]);
  await expect(back.ask({ address: "h:5", incarnation }, null)).rejects.toMatchObject({ code: "LS_BUSY" });
  answer("refused");
  // Answers of somebody else, about somebody else, or given twice, are none.
  back.dialled("f".repeat(16) as Incarnation, { kind: "dialled", incarnation, failure: "" });
  back.dialled(A, { kind: "dialled", incarnation: B, failure: "" });
  for (const failure of ["no answer", "twice"]) back.dialled(A, { kind: "dialled", incarnation, failure });
  back.dialled(B, { kind: "dialled", incarnation, failure: "" });
  expect(await asked[3]).toEqual({ failure: "refused", nats: "nats://h:4222", workers: 2, failures: ["a: no answer"] });
  expect(dialled).toEqual(["h:1", "h:2", "h:3", "h:4"]);
});

test("a worker that does not answer is not waited for without end, and speaks for nothing", async () => {
  const parts = { dial: async () => null, workers: () => [{ incarnation: A, name: "a" }], send() {}, nats: null };
  const back = new DialBack({ ...parts, patience: 1 });
  for (let i = 0; i < 6; i++)
    expect(await back.ask({ address: "h:1", incarnation: B }, null)).toEqual({
      failure: "",
      nats: "",
      workers: 0,
      failures: [],
    });
});

test("whoever asks on and on is told to come back in a minute, and others are dialled meanwhile", async () => {
  const back = new DialBack({ dial: async () => null, workers: () => [], send() {}, nats: null });
  const ask = (incarnation: Incarnation, now: number) => back.ask({ address: "h:1", incarnation }, incarnation, now);
  const often = async (times: number, now: number) => {
    for (let i = 0; i < times; i++) expect((await ask(A, now)).failure).toBe("");
    await expect(ask(A, now)).rejects.toMatchObject({ code: "LS_BUSY" });
  };
  await often(6, 0);
  expect((await ask(B, 0)).failure).toBe("");
  // Six more in the next minute, and no more.
  await often(6, 60_000);
  // Nor do many of them together go on without end.
  let answered = 0;
  for (let n = 0; n < 70; n++) {
    const one = n.toString(16).padStart(16, "0") as Incarnation;
    answered += await ask(one, 120_000).then(
      () => 1,
      () => 0,
    );
  }
  expect(answered).toBe(60);
});

test("a worker has itself dialled and nobody else, since answers about others let those in", async () => {
  const { address, join } = await secured({}, { ...RUN, workers: [] });
  const client = dial(address, await join(A));
  const ask = (incarnation: string) =>
    unary<ReachReply>((done) =>
      client.reach({ address: "127.0.0.1:1", incarnation }, { deadline: Date.now() + 10_000 }, done),
    );
  expect(await failure(ask(B))).toBe("LS_NOT_ALLOWED");
  expect((await ask(A)).failure).toContain("ECONNREFUSED");
});

test("the command: a line for each finding, the link out of a file, exit code 3 where something lacks", async () => {
  const { address, token } = await secured({ lifetime: HOUR }, { ...RUN, workers: [] });
  const { host, port } = splitAddress(address)!;
  const file = join(scratchDirectory(), "join");
  writeFileSync(file, `On another machine: npx lockstep worker --join ${formatLink(host, port, token())}\n`);
  const fine = lockstep(["doctor", "--peer", file]);
  expect(await fine.ended, fine.err()).toMatchObject({ code: 0 });
  expect(fine.out()).toMatch(/^ok {2}coordinator .*\nok {2}run .*\nok {2}the way back .*\nok {2}workers .*none yet\n$/);
  const dead = lockstep(["doctor", "--json", "--peer", `127.0.0.1:${await deadPort()}`]);
  expect(await dead.ended).toMatchObject({ code: 3 });
  expect(JSON.parse(dead.out())).toMatchObject({
    healthy: false,
    findings: [{ what: "coordinator", state: "missing" }],
  });
  const wrong = lockstep(["doctor", "--peer", "nonsense"]);
  expect(await wrong.ended).toMatchObject({ code: 2 });
});
