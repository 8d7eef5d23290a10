import { afterEach, describe, expect, it, vi } from "vitest";
import { CuttableWire } from "./fake-peer.ts";
import {
  bytesOf,
  expectSum,
  gradientsOf,
  incarnationOf,
  type MemberOptions,
  rangesAt,
  referenceSum,
  startMember,
  type TestMember,
  takePart,
  testLayout,
  viewOf,
} from "./support.ts";

/** Streams break, come early, come late and end; the sums do not care. */

const stops: (() => void)[] = [];

afterEach(() => {
  for (const stop of stops.splice(0)) stop();
});

async function member(index: number, options: MemberOptions): Promise<TestMember> {
  const started = await startMember(index, options);
  stops.push(() => started.stop());
  return started;
}

const small: MemberOptions = { layout: testLayout(5000, 8192), shards: 8 };
const halves = rangesAt(8, [4]);

describe("streams", () => {
  it("that are cut in the middle of a step are opened again and finish it", async () => {
    const options: MemberOptions = { layout: testLayout(400_000, 1 << 19), shards: 8 };
    const members = [await member(0, options), await member(1, options)];
    const wires = members.map(({ address }) => new CuttableWire(address));
    for (const wire of wires) {
      await wire.start();
      stops.push(() => wire.stop());
    }
    const view = viewOf(
      members.map(({ self }, i) => ({ self, address: wires[i]!.address })),
      halves,
    );
    for (const { exchange } of members) exchange.openView(view);
    for (let step = 0; step < 3; step++) {
      wires[0]!.cutAfter(400_000 * (step + 1));
      wires[1]!.cutAfter(700_000);
      for (const one of members) takePart(view, step, one, options);
      await expectSum(view, step, members, options);
      for (const one of members) await one.waitFor("trailer", ({ trailer }) => trailer.step === step);
    }
    expect(wires[0]!.cuts).toBe(3);
    const lost = members[1]!.events.filter((event) => event.kind === "lost");
    expect(lost).toContainEqual({ kind: "lost", view: view.id, peer: members[0]!.self, refused: false });
    expect(lost.every((event) => event.kind === "lost" && !event.refused)).toBe(true);
    expect(members.flatMap(({ events }) => events.filter(({ kind }) => kind === "corrupt"))).toEqual([]);
  });

  it("whose peer is gone are reported as refused", async () => {
    const [a, b] = [await member(0, small), await member(1, small)];
    const view = viewOf([a, b], halves);
    for (const { exchange } of [a, b]) exchange.openView(view);
    takePart(view, 0, b, small);
    await a.waitFor("active");
    b.stop();
    expect(await a.waitFor("lost", ({ refused }) => refused)).toEqual({
      kind: "lost",
      view: view.id,
      peer: b.self,
      refused: true,
    });
  });

  it("to another process at the peer's old address are reported as refused", async () => {
    const [a, b] = [await member(0, small), await member(1, small)];
    const view = viewOf([a, { self: incarnationOf(7), address: b.address }], halves);
    a.exchange.openView(view);
    expect(await a.waitFor("lost")).toMatchObject({ peer: incarnationOf(7), refused: true });
  });

  it("that come before the view is known are held, and after a while called again", async () => {
    const options = { ...small, holdMillis: 30 };
    const [a, b] = [await member(0, options), await member(1, options)];
    const view = viewOf([a, b], halves);
    const calls = vi.spyOn(b.exchange, "accept");
    a.exchange.openView(view);
    takePart(view, 0, a, small);
    // a's call to b is refused at least once; nobody is lost by that.
    await vi.waitFor(() => expect(calls.mock.calls.length).toBeGreaterThan(1), { timeout: 30_000 });
    expect(a.events).toEqual([]);
    b.exchange.openView(view);
    takePart(view, 0, b, small);
    await expectSum(view, 0, [a, b], small);
    expect([...a.events, ...b.events].filter(({ kind }) => kind === "lost")).toEqual([]);
  });

  it("end without a word when their peer leaves the view", async () => {
    const [a, b] = [await member(0, small), await member(1, small)];
    const [first, second] = [viewOf([a, b], halves, 1), viewOf([a, b], halves, 2)];
    for (const view of [first, second]) for (const { exchange } of [a, b]) exchange.openView(view);
    for (const one of [a, b]) takePart(first, 0, one, small);
    await expectSum(first, 0, [a, b], small);
    a.exchange.closeView(first.id);
    for (const one of [a, b]) takePart(second, 1, one, small);
    await expectSum(second, 1, [a, b], small);
    b.exchange.closeView(first.id);
    expect([...a.events, ...b.events].filter(({ kind }) => kind === "lost")).toEqual([]);
  });

  it("bring a peer's next step before this member begins it", async () => {
    const [a, b, c] = [await member(0, small), await member(1, small), await member(2, small)];
    const members = [a, b, c];
    const view = viewOf(members, rangesAt(8, [2, 6]));
    for (const { exchange } of members) exchange.openView(view);
    for (const one of members) takePart(view, 0, one, small);
    await expectSum(view, 0, members, small);
    // a and b are ahead by one step; all that they can send to c comes before c begins.
    takePart(view, 1, a, small);
    takePart(view, 1, b, small);
    await c.waitFor("trailer", ({ trailer }) => trailer.step === 1 && trailer.from === a.self);
    await c.waitFor("trailer", ({ trailer }) => trailer.step === 1 && trailer.from === b.self);
    const gradients = gradientsOf(small.layout, 8, 0, "float32");
    expect(bytesOf(c.reduced(0)).equals(bytesOf(referenceSum(gradients, small.layout, "float32")))).toBe(true);
    takePart(view, 1, c, small);
    await expectSum(view, 1, members, small);
  });

  it("of a planned view carry its first step while the predecessor's last one is under way elsewhere", async () => {
    const [a, b, joiner] = [await member(0, small), await member(1, small), await member(2, small)];
    const before = viewOf([a, b], halves, 1);
    const after = viewOf([a, b, joiner], halves, 2);
    for (const { exchange } of [a, b]) exchange.openView(before);
    for (const { exchange } of [a, b, joiner]) exchange.openView(after);
    for (const one of [a, b]) takePart(before, 4, one, small);
    await expectSum(before, 4, [a, b], small);
    takePart(after, 5, a, small);
    expect(await joiner.waitFor("active")).toMatchObject({ view: after.id, step: 5 });
    joiner.exchange.begin(after.id, 5);
    await b.waitFor("trailer", ({ trailer }) => trailer.view.number === 2);
    takePart(after, 5, b, small);
    await expectSum(after, 5, [a, b, joiner], small);
  });

  it("refuse a fifth view at a time", async () => {
    const a = await member(0, small);
    for (let number = 1; number <= 4; number++) a.exchange.openView(viewOf([a], rangesAt(8, []), number));
    expect(() => a.exchange.openView(viewOf([a], rangesAt(8, []), 5))).toThrow(
      expect.objectContaining({ code: "LS_TOO_MANY_VIEWS" }),
    );
  });
});
