import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { finishingOrder, maximalNodes, type ShardRange } from "../../shared/plan/tree.ts";
import { anyFloat, sum, sumBf16, words } from "./reference.ts";
import { Bench } from "./support.ts";

const bench = new Bench(2048);
const FLOATS = 40;
const rounding = { float32: { name: "add", oracle: sum }, bf16: { name: "addBf16", oracle: sumBf16 } } as const;

/** The tree written down again: split at the largest power of two below the size. */
function oracleSum(leaves: readonly number[][], add: (a: number, b: number) => number): number[] {
  if (leaves.length === 1) return leaves[0]!;
  let left = 1;
  while (left * 2 < leaves.length) left *= 2;
  const [a, b] = [oracleSum(leaves.slice(0, left), add), oracleSum(leaves.slice(left), add)];
  return a.map((x, i) => add(x, b[i]!));
}

/** A worker's part: sums the leaves of one maximal node on a stack of buffers from `buffer` on; returns its address. */
function sumNode(wire: keyof typeof rounding, leaves: readonly number[][], node: ShardRange, buffer: number): number {
  const size = node.to - node.from;
  const local = finishingOrder(size, maximalSingles(size));
  let top = buffer;
  for (const operation of local) {
    if (operation.kind === "push") bench.put(top++, leaves[node.from + operation.node.from]!);
    else {
      top--;
      bench.arithmetic[rounding[wire].name](bench.at(top - 1), bench.at(top - 1), bench.at(top), FLOATS);
    }
  }
  return bench.at(buffer);
}
const maximalSingles = (size: number) => Array.from({ length: size }, (_, i) => ({ from: i, to: i + 1 }));

/** The owner's part, for a piece [from, to) of the vector. */
function finish(wire: keyof typeof rounding, shards: number, nodes: readonly ShardRange[], at: Map<string, number>) {
  const stack: number[] = [];
  for (const operation of finishingOrder(shards, nodes)) {
    if (operation.kind === "push") stack.push(at.get(`${operation.node.from}-${operation.node.to}`)!);
    else {
      const [b, a] = [stack.pop()!, stack.pop()!];
      for (const [from, to] of [
        [0, 16],
        [16, 17],
        [17, FLOATS],
      ] as const) {
        bench.arithmetic[rounding[wire].name](a + 4 * from, a + 4 * from, b + 4 * from, to - from);
      }
      stack.push(a);
    }
  }
  return new Float32Array(bench.memory.buffer, stack[0]!, FLOATS);
}

const schedule = fc.integer({ min: 1, max: 33 }).chain((shards) =>
  fc.record({
    shards: fc.constant(shards),
    leaves: fc.array(fc.array(anyFloat(), { minLength: FLOATS, maxLength: FLOATS }), {
      minLength: shards,
      maxLength: shards,
    }),
    cuts: fc.uniqueArray(fc.integer({ min: 0, max: shards }), { maxLength: 8 }),
    wire: fc.constantFrom("float32", "bf16"),
  }),
);

describe("the canonical sum", () => {
  it("has the same bits however the shards are cut into contiguous ranges", () => {
    fc.assert(
      fc.property(schedule, ({ shards, leaves, cuts, wire }) => {
        const edges = [...new Set([0, ...cuts, shards])].sort((a, b) => a - b);
        const ranges = edges.slice(1).map((to, i) => ({ from: edges[i]!, to }));
        const nodes = ranges.flatMap((range) => maximalNodes(shards, range));
        // Nodes keep their sums in buffers 0, 1, …; the stack of the one being summed lies above them.
        const at = new Map(nodes.map((node, i) => [`${node.from}-${node.to}`, sumNode(wire, leaves, node, i)]));
        const expected = oracleSum(leaves, rounding[wire].oracle);
        expect(words(finish(wire, shards, nodes, at))).toEqual(words(expected));
      }),
      { numRuns: 400 },
    );
  });

  it("differs from a running sum, so that the order is really kept", () => {
    const leaves = [1, 2 ** -24, 2 ** -24, 0].map((x) => Array<number>(FLOATS).fill(x));
    expect(oracleSum(leaves, sum)[0]).toBe(1);
    const nodes = maximalNodes(4, { from: 0, to: 4 });
    expect(new Float32Array(bench.memory.buffer, sumNode("float32", leaves, nodes[0]!, 0), 1)[0]).toBe(1);
    const other = [2 ** -24, 2 ** -24, 1, 0].map((x) => Array<number>(FLOATS).fill(x));
    expect(new Float32Array(bench.memory.buffer, sumNode("float32", other, nodes[0]!, 0), 1)[0]).toBe(1 + 2 ** -23);
  });
});
