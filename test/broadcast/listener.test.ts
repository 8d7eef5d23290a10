import { connect } from "nats";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Broadcaster } from "../../shared/broadcast/broadcaster.ts";
import { listen, type News, parseNews, Repeats } from "../../shared/broadcast/listener.ts";
import { configOf, entryOf, freePort, needsNats, startServer, type TestServer } from "./support.ts";

const bytes = (value: unknown) => Buffer.from(JSON.stringify(value));

describe("news", () => {
  it("are what fits the schema of its subject, everything else is passed over", () => {
    const event = { run: "r", time: "t", type: "view", more: 1 };
    expect(parseNews("lockstep.v1.r.event", bytes(event))).toEqual({ kind: "event", message: event });
    expect(parseNews("lockstep.v1.r.step", bytes(event))).toBeNull();
    expect(parseNews("lockstep.v1.r.event", Buffer.from("{"))).toBeNull();
    expect(parseNews("elsewhere", bytes(event))).toBeNull();
  });

  it("of one step and view are told once; the same step in another view is another one", () => {
    const repeats = new Repeats();
    const step = (view: string, step: number, from: string) =>
      ({ kind: "step", message: { run: "r", view, step, from } }) as News;
    const told = [step("1.1", 5, "a"), step("1.1", 5, "b"), step("1.2", 5, "b"), step("1.1", 6, "a")].map((n) =>
      repeats.isNew(n),
    );
    expect(told).toEqual([true, false, true, true]);
  });
});

describe.skipIf(needsNats !== "")(`a listener ${needsNats}`, () => {
  let server: TestServer;
  beforeAll(async () => {
    server = await startServer(await freePort());
  });
  afterAll(() => server.stop());

  const heard = async (run: string | null, everyCopy: boolean): Promise<News[]> => {
    const stop = new AbortController();
    const news: News[] = [];
    const publishers: Broadcaster[] = [];
    const onSubscribed = () => {
      for (const name of ["r", "other"]) {
        for (const from of ["aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb"]) {
          const publisher = new Broadcaster(server.url, name);
          publishers.push(publisher);
          for (const step of [0, 1]) publisher.publishStep(entryOf(step), from, configOf(name));
          publisher.publishEvent({ run: name, time: "t", type: "end", from });
        }
      }
    };
    let ends = 0;
    for await (const one of listen({ url: server.url, run, signal: stop.signal, everyCopy, onSubscribed })) {
      if (one.kind === "event" && ++ends === (run === null ? 4 : 2)) stop.abort();
      else news.push(one);
    }
    await Promise.all(publishers.map((publisher) => publisher.close()));
    return news.filter(({ kind }) => kind !== "event");
  };

  it("hears each step and epoch of its run once, though every member publishes", async () => {
    const news = await heard("r", false);
    expect(
      news.map(({ kind, message }) => `${kind} ${message.run} ${"step" in message ? message.step : ""}`).sort(),
    ).toEqual(["epoch r 1", "step r 0", "step r 1"]);
  });

  it("hears every copy if it wants, and several runs at once", async () => {
    expect(await heard("r", true)).toHaveLength(6);
    expect(new Set((await heard(null, false)).map(({ message }) => message.run))).toEqual(new Set(["r", "other"]));
  });

  it("passes over what others publish under our subjects", async () => {
    const stop = new AbortController();
    const client = await connect({ servers: server.url });
    const onSubscribed = () => {
      client.publish("lockstep.v1.r.step", "no JSON");
      client.publish("lockstep.v1.r.something", "{}");
      client.publish("lockstep.v1.r.event", JSON.stringify({ run: "r", time: "t", type: "fine" }));
    };
    const news: News[] = [];
    for await (const one of listen({ url: server.url, run: "r", signal: stop.signal, onSubscribed })) {
      news.push(one);
      stop.abort();
    }
    await client.close();
    expect(news).toMatchObject([{ kind: "event", message: { type: "fine" } }]);
  });

  it("says where it looked when no server answers", async () => {
    const port = await freePort();
    const news = listen({ url: `nats://127.0.0.1:${port}`, run: null, signal: new AbortController().signal });
    await expect(news.next()).rejects.toMatchObject({
      code: "LS_NATS_UNREACHABLE",
      message: expect.stringContaining(String(port)),
    });
  });
});
