import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { afterEach, describe, expect, it } from "vitest";
import {
  computeNodes,
  gradientsOf,
  type MemberOptions,
  rangesAt,
  startMember,
  type TestMember,
  testLayout,
  trailerOf,
  viewOf,
} from "./support.ts";

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

let members: TestMember[] = [];

afterEach(() => {
  for (const member of members) member.stop();
});

const heapAfterCollection = () => {
  collect();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
};

describe("memory", () => {
  it("does not grow with steps and view changes", async () => {
    const options: MemberOptions = { layout: testLayout(3000, 8192), shards: 8 };
    members = await Promise.all([0, 1].map((i) => startMember(i, options)));
    const ranges = rangesAt(8, [4]);
    const gradients = gradientsOf(options.layout, 8, 0, "float32");
    let number = 0;
    const run = async (steps: number, from: number) => {
      for (let step = from; step < from + steps; step++) {
        const before = viewOf(members, ranges, number);
        if (step % 20 === 0) number += 1;
        const view = viewOf(members, ranges, number);
        for (const { exchange } of members) exchange.openView(view);
        for (const [i, member] of members.entries()) {
          member.exchange.begin(view.id, step);
          member.exchange.publishNodes(view.id, step, computeNodes(member, options, ranges[i]!, gradients));
          member.exchange.publishTrailer(trailerOf(view, member, step));
        }
        await Promise.all(members.map((member) => member.waitFor("reduced", (event) => event.step === step)));
        if (number !== before.id.number) for (const { exchange } of members) exchange.closeView(before.id);
        for (const { events } of members) events.length = 0;
      }
    };
    await run(200, 0);
    const shared = members.map(({ memory }) => memory.buffer.byteLength);
    const before = heapAfterCollection();
    await run(600, 200);
    const grown = heapAfterCollection() - before;
    expect(members.map(({ memory }) => memory.buffer.byteLength)).toEqual(shared);
    // 600 steps and 30 view changes; a leak of one chunk's books a step would be far above.
    expect(grown / 600).toBeLessThan(1024);
  });
});
