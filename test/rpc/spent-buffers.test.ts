import { constants, PerformanceObserver } from "node:perf_hooks";
import { setImmediate as turn } from "node:timers/promises";
import { expect, test } from "vitest";
import { SpentBuffers } from "../../shared/rpc/spent-buffers.ts";

test("what was sent or has come is collected once so many bytes, whatever the sizes of the messages", () => {
  let collected = 0;
  const spent = new SpentBuffers(() => collected++, 100);
  for (const [bytes, times] of [
    [60, 0],
    [39, 0],
    [1, 1],
    [99, 1],
    [1000, 2],
    [99, 2],
  ] as const) {
    spent.add(bytes);
    expect(collected).toBe(times);
  }
});

test("it is the young generation that V8 collects, never the whole heap", async () => {
  const kinds: number[] = [];
  const observer = new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) kinds.push((entry as unknown as { detail: { kind: number } }).detail.kind);
  });
  const spent = new SpentBuffers();
  await turn();
  observer.observe({ entryTypes: ["gc"] });
  for (let i = 0; i < 20; i++) spent.add(8 << 20);
  for (let i = 0; i < 10; i++) await turn();
  observer.disconnect();
  expect(kinds.filter((kind) => kind === constants.NODE_PERFORMANCE_GC_MINOR).length).toBeGreaterThanOrEqual(20);
  expect(kinds).not.toContain(constants.NODE_PERFORMANCE_GC_MAJOR);
});
