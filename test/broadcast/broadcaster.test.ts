import { afterEach, describe, expect, it } from "vitest";
import { Broadcaster } from "../../shared/broadcast/broadcaster.ts";
import {
  type EpochMessage,
  epochMessageSchema,
  type StepMessage,
  stepMessageSchema,
} from "../../shared/broadcast/schema.ts";
import { configOf, entryOf, freePort, needsNats, PlainClient, startServer, type TestServer, until } from "./support.ts";

const open: { close?: () => unknown; stop?: () => unknown }[] = [];
afterEach(async () => {
  for (const one of open.splice(0)) await (one.close?.() ?? one.stop?.());
});
const kept = <T extends { close?: () => unknown; stop?: () => unknown }>(one: T): T => {
  open.push(one);
  return one;
};

const event = (n: number) => ({ run: "r", time: "2026-01-02T03:04:05.000Z", type: "view", n });
const numbers = (client: PlainClient) => client.messages.map(({ text }) => (JSON.parse(text) as { n: number }).n);
const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);

describe("without a server", () => {
  it("keeps the newest messages within its bounds, and hands them over when a server appears", async () => {
    const port = await freePort();
    const broadcaster = kept(new Broadcaster(`nats://127.0.0.1:${port}`, "r", { messages: 100, bytes: 1 << 20 }));
    for (const n of range(0, 5000)) broadcaster.publishEvent(event(n));
    expect([broadcaster.connected, broadcaster.queued, broadcaster.dropped]).toEqual([false, 100, 4900]);
    if (needsNats !== "") return;
    // The subscriber must be there before the first message is sent: it subscribes while the publisher redials.
    const server = kept(await startServer(port));
    const client = kept(await PlainClient.subscribe(server.port, "lockstep.v1.>"));
    await until(() => broadcaster.connected && broadcaster.queued === 0);
    broadcaster.publishEvent(event(5000));
    await until(() => numbers(client).at(-1) === 5000);
    expect(numbers(client)).toEqual(range(5001 - numbers(client).length, 5001));
    expect(broadcaster.dropped).toBe(4900);
  });

  it("closes at once", async () => {
    const broadcaster = new Broadcaster(`nats://127.0.0.1:${await freePort()}`, "r");
    broadcaster.publishEvent(event(1));
    await broadcaster.close();
    broadcaster.publishEvent(event(2));
    expect(broadcaster.queued).toBe(1);
  });
});

describe.skipIf(needsNats !== "")(`with a server ${needsNats}`, () => {
  const started = async () => {
    const server: TestServer = kept(await startServer(await freePort()));
    const broadcaster = kept(new Broadcaster(server.url, "r"));
    await until(() => broadcaster.connected);
    return { server, broadcaster };
  };

  it("steps and epochs reach a plain client of the NATS protocol", async () => {
    const { server, broadcaster } = await started();
    const client = kept(await PlainClient.subscribe(server.port, "lockstep.v1.r.*"));
    for (const step of [0, 1, 2]) broadcaster.publishStep(entryOf(step), "aaaaaaaaaaaaaaaa", configOf("r"));
    await until(() => client.messages.length === 4);
    expect(client.messages.map(({ subject }) => subject)).toEqual(
      ["step", "step", "epoch", "step"].map((kind) => `lockstep.v1.r.${kind}`),
    );
    const steps = client.messages
      .filter(({ subject }) => subject.endsWith("step"))
      .map(({ text }) => JSON.parse(text) as StepMessage);
    expect(steps.map((message) => stepMessageSchema.parse(message).step)).toEqual([0, 1, 2]);
    const epoch = JSON.parse(client.messages[2]!.text) as EpochMessage;
    expect(epochMessageSchema.parse(epoch)).toMatchObject({
      epoch: 0,
      step: 1,
      images: 64,
      loss: 0.5,
      accuracy: 0.1875,
    });
  });

  it("runs that share a server do not mix", async () => {
    const { server, broadcaster } = await started();
    const other = kept(new Broadcaster(server.url, "other"));
    const client = kept(await PlainClient.subscribe(server.port, "lockstep.v1.other.>"));
    broadcaster.publishEvent(event(1));
    other.publishEvent({ ...event(2), run: "other" });
    await until(() => client.messages.length > 0);
    expect(numbers(client)).toEqual([2]);
  });

  it("a frozen server holds nothing up, costs bounded memory, and gets the newest once it thaws", async () => {
    const { server, broadcaster } = await started();
    const client = kept(await PlainClient.subscribe(server.port, "lockstep.v1.>"));
    server.signal("SIGSTOP");
    const padding = "x".repeat(10_000);
    const total = 20_000;
    for (const n of range(0, total)) {
      broadcaster.publishEvent({ ...event(n), padding });
      // Lets the client write, as a training process would between its steps.
      if (n % 500 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    // 200 MB were offered: 8 MB may wait, and one batch of 1 MB is with the client.
    const { queued, dropped } = broadcaster;
    expect(queued).toBeLessThanOrEqual(1000);
    expect(total - queued - dropped).toBeLessThanOrEqual(200);
    server.signal("SIGCONT");
    await until(() => broadcaster.queued === 0 && numbers(client).at(-1) === total - 1);
    expect(numbers(client).slice(-queued)).toEqual(range(total - queued, total));
    expect(broadcaster.dropped).toBe(dropped);
  });

  it("comes back after the server was killed and started again", async () => {
    const { server, broadcaster } = await started();
    await server.stop();
    await until(() => !broadcaster.connected);
    broadcaster.publishEvent(event(1));
    const again = kept(await startServer(server.port));
    const client = kept(await PlainClient.subscribe(again.port, "lockstep.v1.>"));
    await until(() => broadcaster.connected);
    broadcaster.publishEvent(event(2));
    await until(() => numbers(client).includes(2));
  });

  it("gives up a message beyond the server's limit and goes on", async () => {
    const { server, broadcaster } = await started();
    const client = kept(await PlainClient.subscribe(server.port, "lockstep.v1.>"));
    broadcaster.publishEvent({ ...event(1), padding: "x".repeat(2 << 20) });
    broadcaster.publishEvent(event(2));
    await until(() => client.messages.length > 0);
    expect([numbers(client), broadcaster.dropped, broadcaster.connected]).toEqual([[2], 1, true]);
  });

  it("sends what is left when it closes", async () => {
    const { server, broadcaster } = await started();
    const client = kept(await PlainClient.subscribe(server.port, "lockstep.v1.>"));
    for (const n of range(0, 500)) broadcaster.publishEvent(event(n));
    await broadcaster.close();
    await until(() => client.messages.length === 500);
    expect(broadcaster.dropped).toBe(0);
  });
});
