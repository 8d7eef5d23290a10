import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import type { Incarnation } from "../../shared/protocol/view.ts";
import { type Envelope, wireCoordinatorMessage } from "../../shared/rpc/convert.ts";
import { bindingOf, channelOptions, coordinatorService, grpc, listen } from "../../shared/rpc/service.ts";
import { Session } from "../../worker/session.ts";
import { helloOf } from "../coordinator/support.ts";
import { scratch } from "../up/support.ts";

type Call = grpc.ServerDuplexStream<Envelope, Envelope>;

/** A coordinator that answers each stream with what `answer` says, and a worker's session with it. */
async function dialled(answer: (call: Call, stream: number) => void, file: string | null = null) {
  const heard: Envelope[] = [];
  let streams = 0;
  const server = new grpc.Server(channelOptions());
  server.addService(coordinatorService, {
    ...Object.fromEntries(
      ["pullCheckpoint", "pushPredictions", "getStatus", "control"].map((name) => [name, () => {}]),
    ),
    session: (call: Call) => {
      call.on("data", (envelope: Envelope) => heard.push(envelope));
      call.on("error", () => {});
      call.on("end", () => call.end());
      answer(call, streams++);
    },
  });
  const coordinator = await listen(server, bindingOf("127.0.0.1"));
  if (file !== null) writeFileSync(file, JSON.stringify({ coordinator }));
  const messages: string[] = [];
  const malformed: { readonly error: unknown; readonly often: boolean }[] = [];
  const session = new Session({
    ...{ coordinator: file ?? coordinator, redialFirst: 1, redialMax: 5, silence: 60_000 },
    hello: () => helloOf("0123456789abcdef" as Incarnation),
    onMessage: ({ kind }) => messages.push(kind),
    onState: () => {},
    onMalformed: (error, often) => {
      malformed.push({ error, often });
      if (often) session.close();
    },
  });
  onTestFinished(() => {
    session.close();
    server.forceShutdown();
  });
  return { session, heard, messages, malformed };
}

const heartbeat = wireCoordinatorMessage({ kind: "heartbeat", term: 1, recorded: 0 });
/** A view that ends before it begins: whole on the wire, but no view. */
const shards = { from: 5, to: 2 };
const member = { incarnation: "0123456789abcdef", address: "127.0.0.1:1", shards, entry: "level" };
const view = { id: { term: 1, number: 1 }, predecessor: null, kind: "train", members: [member] };
const wrong = { kind: "plan", plan: { view } };

test("while nobody knows where the coordinator is there is no client, and not a closed one that throws", async () => {
  using place = scratch();
  const file = join(place.path, "endpoints.json");
  const calls: Call[] = [];
  const { session, messages } = await dialled((call) => {
    calls.push(call);
    call.write(heartbeat);
  }, file);
  await expect.poll(() => messages).toEqual(["heartbeat"]);
  expect(session.channel).not.toBeNull();
  rmSync(file);
  calls[0]!.end();
  await expect.poll(() => session.channel).toBeNull();
});

describe("a message that cannot be read", () => {
  test("is told to the coordinator by its code and obeyed by nobody; the session dials again", async () => {
    const { heard, messages, malformed } = await dialled((call, stream) => {
      if (stream === 0) call.write(wrong);
      else call.write(heartbeat);
    });
    await expect.poll(() => messages).toEqual(["heartbeat"]);
    expect(malformed).toMatchObject([{ error: { code: "LS_MALFORMED" }, often: false }]);
    await expect.poll(() => heard.map(({ kind }) => kind)).toEqual(["hello", "failed", "hello"]);
    expect(heard[1]).toMatchObject({
      failed: { code: "LS_MALFORMED", message: expect.stringContaining("range ends") },
    });
  });

  test("again and again: the worker gives up instead of dialling for ever", async () => {
    const { malformed } = await dialled((call) => {
      call.write(heartbeat);
      call.write({});
    });
    await expect.poll(() => malformed.some(({ often }) => often)).toBe(true);
    expect(malformed).toHaveLength(10);
  });
});
