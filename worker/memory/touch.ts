import type { MemoryPlan, Region } from "./plan.ts";

const PAGE = 4096;

/**
 * Regions that a worker's first step with shards and its first checkpoint write for the first time. Of the gradient
 * buffers those that a range of whole sub-trees needs, which are taken from the end; wider ranges may use more of them.
 * @param shards V
 */
export function usedSoon({ nodes, reduced, snapshot }: MemoryPlan, shards: number): Region[] {
  return [...nodes.slice(-(Math.ceil(Math.log2(shards)) + 1)), ...reduced, snapshot];
}

/**
 * Makes the system provide the pages of these regions now: the first write to each page costs microseconds, which for a
 * large model add up to a pause. What lies there stays as it is, also while other threads write it.
 */
export function touch(memory: WebAssembly.Memory, regions: readonly Region[]): void {
  const words = new Int32Array(memory.buffer);
  for (const { address, bytes } of regions) {
    for (let at = address; at < address + bytes; at += PAGE) Atomics.or(words, at / 4, 0);
  }
}
