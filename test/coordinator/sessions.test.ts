import { EventEmitter } from "node:events";
import { describe, expect, test } from "vitest";
import { type SessionCall, Sessions } from "../../coordinator/sessions.ts";
import type { WorkerMessage } from "../../shared/protocol/messages.ts";
import type { Incarnation } from "../../shared/protocol/view.ts";
import { type Envelope, wireWorkerMessage } from "../../shared/rpc/convert.ts";
import { entry, helloOf, hex } from "./support.ts";

const W = hex(1, 16) as Incarnation;

class FakeCall extends EventEmitter {
  writableLength = 0;
  readonly written: Envelope[] = [];
  ended = false;
  destroyed = false;
  write = (envelope: Envelope) => void this.written.push(envelope);
  end = () => {
    this.ended = true;
  };
  destroy = () => {
    this.destroyed = true;
  };
  says = (message: WorkerMessage) => void this.emit("data", wireWorkerMessage(message));
}

function open() {
  const heard: string[] = [];
  const sessions = new Sessions(2, {
    onHello: ({ incarnation }) => heard.push(`hello ${incarnation}`),
    onMessage: (_from, { kind }) => heard.push(kind),
    onEnd: (incarnation) => heard.push(`end ${incarnation}`),
    onRefused: (_who, reason) => heard.push(`refused: ${reason}`),
  });
  const dial = (greet = true) => {
    const call = new FakeCall();
    sessions.open(call as unknown as SessionCall);
    if (greet) call.says(hello);
    return call;
  };
  return { sessions, heard, dial };
}
const hello = helloOf(W);
const evaluated: WorkerMessage = { kind: "evaluated", batch: 1 };

describe("a worker's session", () => {
  test("is its newest stream: what an older one still holds, or its end, means nothing", () => {
    const { sessions, heard, dial } = open();
    const first = dial();
    const second = dial();
    first.says(evaluated);
    first.emit("close");
    second.says(evaluated);
    sessions.send(W, { kind: "snapshot" });
    expect(heard).toEqual([`hello ${W}`, `hello ${W}`, "evaluated"]);
    expect([first.ended, first.written.length, second.written.map(({ kind }) => kind)]).toEqual([
      true,
      0,
      ["snapshot"],
    ]);
    second.emit("cancelled");
    second.emit("close");
    expect(heard.slice(3)).toEqual([`end ${W}`]);
    expect(sessions.incarnations).toEqual([]);
  });

  test.each<[string, (call: FakeCall) => void, string]>([
    ["begins with anything but hello", (call) => call.says(evaluated), 'began with "evaluated"'],
    ["says what is no message", (call) => call.emit("data", { kind: "final", final: { entries: 7 } }), "malformed"],
    ["says nothing", (call) => call.emit("data", {}), "no content"],
    [
      "names a step whose shards are not all there",
      (call) => {
        call.says(hello);
        call.says({ kind: "final", entries: [entry(0, 1)] });
      },
      "1 shards of 2",
    ],
  ])("that %s is refused by a code, and ended", (_, act, words) => {
    const { sessions, heard, dial } = open();
    const call = dial(false);
    act(call);
    expect(heard.find((line) => line.startsWith("refused"))).toContain(words);
    expect(call.written).toMatchObject([
      { rejected: { code: "LS_MALFORMED", message: expect.stringContaining(words) } },
    ]);
    expect([call.ended, sessions.incarnations]).toEqual([true, []]);
  });

  test("whose worker does not read is ended instead of filling memory", () => {
    const { sessions, heard, dial } = open();
    const call = dial();
    call.writableLength = 513;
    sessions.send(W, { kind: "snapshot" });
    expect([call.destroyed, call.written.length]).toEqual([true, 0]);
    expect(heard.slice(1)).toEqual(["refused: it does not read what it is sent", `end ${W}`]);
  });
});
