import fc from "fast-check";
import { afterEach, describe, expect, it } from "vitest";
import { CuttableWire } from "./fake-peer.ts";
import {
  expectSum,
  type MemberOptions,
  publish,
  rangesAt,
  startMember,
  type TestMember,
  takePart,
  testLayout,
  viewOf,
} from "./support.ts";

/**
 * Planned and unplanned view changes in random order, with members that change at different moments and streams that are
 * cut: every vector that is announced as whole is the canonical sum.
 */

const options: MemberOptions = { layout: testLayout(20_000, 16_384), shards: 8 };
const COUNT = 3;
const stops: (() => void)[] = [];

afterEach(() => {
  for (const stop of stops.splice(0)) stop();
});

interface Change {
  /** How this step ends: in the same view, in a planned successor, or given up and done again in an unplanned one. */
  readonly end: "stay" | "planned" | "abandoned";
  readonly cuts: readonly number[];
  /** Members that have published when the step is given up, and the order in which members act. */
  readonly published: readonly boolean[];
  readonly order: readonly number[];
  /** Bytes after which each member's wire is cut; 0: not. */
  readonly cut: readonly number[];
}

const changes = fc.array(
  fc.record<Change>({
    end: fc.constantFrom("stay", "planned", "abandoned"),
    cuts: fc.uniqueArray(fc.integer({ min: 1, max: 7 }), { minLength: COUNT - 1, maxLength: COUNT - 1 }),
    published: fc.array(fc.boolean(), { minLength: COUNT, maxLength: COUNT }),
    order: fc.shuffledSubarray([0, 1, 2], { minLength: COUNT, maxLength: COUNT }),
    cut: fc.array(fc.constantFrom(0, 0, 20_000, 90_000), { minLength: COUNT, maxLength: COUNT }),
  }),
  { minLength: 3, maxLength: 8 },
);

const soon = () => new Promise((resolve) => setImmediate(resolve));

async function play(list: readonly Change[]): Promise<void> {
  const members = await Promise.all(Array.from({ length: COUNT }, (_, i) => startMember(i, options)));
  const wires = members.map(({ address }) => new CuttableWire(address));
  for (const member of members) stops.push(() => member.stop());
  for (const wire of wires) {
    await wire.start();
    stops.push(() => wire.stop());
  }
  let number = 0;
  const newView = (cuts: readonly number[]) => {
    number += 1;
    return viewOf(
      members.map(({ self }, i) => ({ self, address: wires[i]!.address })),
      rangesAt(8, cuts),
      number,
    );
  };
  /** Members act one after the other. */
  const inTurn = async (order: readonly number[], act: (member: TestMember, index: number) => void) => {
    for (const i of order) {
      act(members[i]!, i);
      await soon();
    }
  };
  let view = newView([2, 5]);
  for (const { exchange } of members) exchange.openView(view);
  let step = 0;
  for (const { end, cuts, published, order, cut } of list) {
    wires.forEach((wire, i) => {
      if (cut[i]! > 0) wire.cutAfter(cut[i]!);
    });
    const left = view;
    if (end === "abandoned") {
      await inTurn(order, (member, i) => {
        member.exchange.begin(left.id, step);
        if (published[i]) publish(left, step, member, options);
      });
      const next = newView(cuts);
      // Each member leaves and enters at its own moment; the others may be at work in the new view already.
      await inTurn(order, (member) => {
        member.exchange.closeView(left.id);
        member.exchange.openView(next);
        takePart(next, step, member, options);
      });
      view = next;
    } else await inTurn(order, (member) => takePart(left, step, member, options));
    await expectSum(view, step, members, options);
    for (const member of members) {
      for (const peer of members) {
        if (peer !== member)
          await member.waitFor(
            "trailer",
            ({ trailer: t }) => t.step === step && t.from === peer.self && t.view.number === view.id.number,
          );
      }
    }
    step += 1;
    if (end !== "planned") continue;
    const next = newView(cuts);
    for (const i of order) members[i]!.exchange.openView(next);
    view = next;
    await inTurn(order, (member) => takePart(next, step, member, options));
    await expectSum(next, step, members, options);
    for (const { exchange } of members) exchange.closeView(left.id);
    step += 1;
  }
  for (const { events, exchange } of members) {
    expect(events.filter((event) => event.kind === "corrupt" || (event.kind === "lost" && event.refused))).toEqual([]);
    expect(exchange.chunksRefused).toBe(0);
  }
  for (const stop of stops.splice(0)) stop();
}

describe("view changes", () => {
  it("of any kind and order leave every member with the canonical sum", async () => {
    await fc.assert(fc.asyncProperty(changes, play), { numRuns: 12 });
  });
});
