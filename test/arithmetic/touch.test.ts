import { expect, test } from "vitest";
import { createMemory, planMemory } from "../../worker/memory/plan.ts";
import { touch, usedSoon } from "../../worker/memory/touch.ts";

const MEGABYTE = 2 ** 20;
const residentMegabytes = () => process.memoryUsage.rss() / MEGABYTE;

test("what the first step and the first checkpoint write is resident afterwards, and what lay there is unchanged", () => {
  const floats = 2 * MEGABYTE;
  const layout = { trainableFloats: floats, stateFloats: floats, vectorFloats: floats };
  const plan = planMemory({
    layout,
    shards: 8,
    optimizer: "sgd",
    ema: false,
    loaderSlots: 0,
    loaderBytes: 0,
    receiveBytes: 0,
  });
  const memory = createMemory(plan);
  // Four buffers for the sums of a whole tree over eight shards, two reduced vectors, the snapshot of weights and momentum.
  const regions = usedSoon(plan, 8);
  expect(regions.reduce((sum, { bytes }) => sum + bytes, 0)).toBe((4 + 2 + 2) * 8 * MEGABYTE);
  const words = regions.flatMap(({ address, bytes }) => [address, address + bytes - 4]);
  const view = new DataView(memory.buffer);
  for (const [i, address] of words.entries()) view.setUint32(address, i + 1, true);
  const before = residentMegabytes();
  touch(memory, regions);
  expect(residentMegabytes() - before).toBeGreaterThan(60);
  expect(words.map((address) => view.getUint32(address, true))).toEqual(words.map((_, i) => i + 1));
});
