import { expect } from "vitest";
import { type Layout, layoutOf } from "../../shared/model/layout.ts";
import { maximalNodes, type ShardRange } from "../../shared/plan/tree.ts";
import type { Trailer } from "../../shared/protocol/trailer.ts";
import type { Incarnation, Member, View } from "../../shared/protocol/view.ts";
import { bindingOf } from "../../shared/rpc/service.ts";
import { type Arithmetic, loadArithmeticSync } from "../../worker/arithmetic/arithmetic.ts";
import type { NodeBuffer } from "../../worker/compute/step.ts";
import { Exchange, type ExchangeEvent } from "../../worker/exchange/exchange.ts";
import { MemberServer } from "../../worker/exchange/member-server.ts";
import type { StateSource } from "../../worker/exchange/serve-state.ts";
import { createMemory, type MemoryPlan, planMemory } from "../../worker/memory/plan.ts";

/** Members of a cluster in one process, each with its own memory, server and exchange; all traffic is real gRPC. */

export type Wire = "float32" | "bf16";

export const incarnationOf = (index: number): Incarnation =>
  (0xabc0_0000_0000_0000n + BigInt(index)).toString(16) as Incarnation;

/** A layout of one kernel of about `floats` floats and one batch norm's statistics. */
export const testLayout = (floats: number, bucketBytes: number): Layout =>
  layoutOf(
    [
      { name: "kernel", shape: [floats], role: "kernel" },
      { name: "mean", shape: [48], role: "movingMean" },
      { name: "variance", shape: [48], role: "movingVariance" },
    ],
    bucketBytes,
  );

/** The sum of shard gradients in the canonical tree, written down independently: split at the largest power of two below. */
export function referenceSum(gradients: readonly Float32Array[], layout: Layout, wire: Wire): Float32Array {
  if (gradients.length === 1) return gradients[0]!;
  let half = 1;
  while (half * 2 < gradients.length) half *= 2;
  const left = referenceSum(gradients.slice(0, half), layout, wire);
  const right = referenceSum(gradients.slice(half), layout, wire);
  const sums = new Float32Array(left.length);
  for (let i = 0; i < sums.length; i++) {
    const sum = Math.fround(left[i]! + right[i]!);
    sums[i] = wire === "bf16" && i < layout.trainableFloats ? toBf16(sum) : sum;
  }
  return sums;
}

const bits = new DataView(new ArrayBuffer(4));

/** Nearest bfloat16, ties to even, by comparing the two neighbours. */
export function toBf16(value: number): number {
  bits.setFloat32(0, value);
  const word = bits.getUint32(0);
  const low = word & 0xffff;
  const down = (word - low) >>> 0;
  const up = down + 0x10000;
  const odd = (word >>> 16) % 2 === 1;
  bits.setUint32(0, low > 0x8000 || (low === 0x8000 && odd) ? up : down);
  return bits.getFloat32(0);
}

/** Small deterministic generator (xorshift32), so that a failing case can be run again. */
export function generator(seed: number): () => number {
  let state = (seed * 2654435761 + 1) >>> 0 || 1;
  return () => {
    state ^= state << 13;
    state >>>= 0;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state / 2 ** 32;
  };
}

const made = new WeakMap<Layout, Map<string, Float32Array[]>>();

/** Gradients of all shards of a step, in very different magnitudes so that the order of additions shows. */
export function gradientsOf(layout: Layout, shards: number, step: number, wire: Wire): Float32Array[] {
  const known = made.get(layout) ?? new Map<string, Float32Array[]>();
  made.set(layout, known);
  const key = `${shards} ${step} ${wire}`;
  const gradients =
    known.get(key) ?? Array.from({ length: shards }, (_, shard) => gradientOf(layout, shard, step, wire));
  known.set(key, gradients);
  return gradients;
}

function gradientOf(layout: Layout, shard: number, step: number, wire: Wire): Float32Array {
  const random = generator(1 + step * 1000 + shard);
  const vector = new Float32Array(layout.vectorFloats);
  for (let i = 0; i < vector.length; i++) {
    const value = Math.fround((random() - 0.5) * SCALES[i % SCALES.length]!);
    vector[i] = wire === "bf16" && i < layout.trainableFloats ? toBf16(value) : value;
  }
  return vector;
}

const SCALES = [1e-30, 1, 3e4, 1e-3, 1e9, 7e-6, 1e-41];

/** Cuts V shards into ranges at the given places. */
export function rangesAt(shards: number, cuts: readonly number[]): ShardRange[] {
  const places = [0, ...[...new Set(cuts)].sort((a, b) => a - b), shards];
  return places.slice(1).map((to, i) => ({ from: places[i]!, to }));
}

export interface TestMember {
  readonly self: Incarnation;
  readonly address: string;
  readonly memory: WebAssembly.Memory;
  readonly plan: MemoryPlan;
  readonly arithmetic: Arithmetic;
  readonly exchange: Exchange;
  readonly server: MemberServer;
  readonly events: ExchangeEvent[];
  /** Resolves with the first event that fits, also one that has come already. */
  waitFor<K extends ExchangeEvent["kind"]>(
    kind: K,
    fits?: (event: Extract<ExchangeEvent, { kind: K }>) => boolean,
  ): Promise<Extract<ExchangeEvent, { kind: K }>>;
  /** The reduced vector of a step, copied. */
  reduced(step: number): Float32Array;
  /** Sets what the state server answers. */
  readonly state: { live: number | null; snapshot: number | null };
  stop(): void;
}

export interface MemberOptions {
  readonly layout: Layout;
  readonly shards: number;
  readonly wire?: Wire;
  readonly redialFirst?: number;
  readonly holdMillis?: number;
}

export async function startMember(index: number, options: MemberOptions): Promise<TestMember> {
  const { layout, shards, wire = "float32", redialFirst = 20, holdMillis = 5000 } = options;
  const needs = {
    layout,
    shards,
    optimizer: "sgd",
    ema: false,
    loaderSlots: 0,
    loaderBytes: 0,
    receiveBytes: 0,
  } as const;
  const plan = planMemory(needs);
  const memory = createMemory(plan);
  const arithmetic = loadArithmeticSync(memory);
  const self = incarnationOf(index);
  const events: ExchangeEvent[] = [];
  const listeners = new Set<(event: ExchangeEvent) => void>();
  const exchange = new Exchange(
    { run: "run", self, layout, shards, wire, memory, plan, arithmetic, redialFirst, redialMax: 200, holdMillis },
    (event) => {
      events.push(event);
      for (const listener of [...listeners]) listener(event);
    },
  );
  const server = new MemberServer();
  const address = await server.start(bindingOf("127.0.0.1"));
  const state: { live: number | null; snapshot: number | null } = { live: null, snapshot: null };
  const source: StateSource = {
    arithmetic,
    live: plan.state.address,
    snapshot: plan.snapshot.address,
    bytes: plan.state.bytes,
    liveStep: () => state.live,
    snapshotStep: () => state.snapshot,
  };
  server.serve({
    run: "run",
    exchange,
    state: source,
    entriesAt: (step) => (state.live === step ? { lineage: "ab".repeat(32), entries: [] } : null),
  });
  return {
    self,
    address,
    memory,
    plan,
    arithmetic,
    exchange,
    server,
    events,
    state,
    waitFor: (kind, fits = () => true) =>
      new Promise((resolve) => {
        type Wanted = Extract<ExchangeEvent, { kind: typeof kind }>;
        const isWanted = (event: ExchangeEvent): event is Wanted => event.kind === kind && fits(event as Wanted);
        const past = events.find(isWanted);
        if (past !== undefined) return resolve(past);
        const listener = (event: ExchangeEvent) => {
          if (!isWanted(event)) return;
          listeners.delete(listener);
          resolve(event);
        };
        listeners.add(listener);
      }),
    reduced: (step) =>
      new Float32Array(memory.buffer, plan.reduced[step % 2 === 0 ? 0 : 1].address, layout.vectorFloats).slice(),
    stop: () => {
      exchange.close();
      server.close();
    },
  };
}

/** A view of members over ranges; an empty range makes a joiner. */
export function viewOf(
  members: readonly { readonly self: Incarnation; readonly address: string }[],
  ranges: readonly ShardRange[],
  number = 1,
): View {
  const entries = members.map(
    ({ self, address }, i): Member => ({
      incarnation: self,
      address,
      shards: ranges[i] ?? { from: 0, to: 0 },
      entry: ranges[i] === undefined ? "joining" : "level",
    }),
  );
  return { id: { term: 1, number }, predecessor: null, kind: "train", members: entries };
}

/** Writes the maximal nodes of a range into the member's node buffers, with their hashes, as the compute thread would. */
export function computeNodes(
  member: TestMember,
  options: MemberOptions,
  range: ShardRange,
  gradients: readonly Float32Array[],
): NodeBuffer[] {
  const { layout, shards, wire = "float32" } = options;
  return maximalNodes(shards, range).map((node, i) => {
    const { address, table, floats } = member.plan.nodes[i]!;
    const sum = referenceSum(gradients.slice(node.from, node.to), layout, wire);
    new Float32Array(member.memory.buffer, address, layout.vectorFloats).set(sum);
    member.arithmetic.blockHashes(address, floats, table);
    return { range: node, address, table };
  });
}

export const trailerOf = (view: View, member: TestMember, step: number): Trailer => ({
  view: view.id,
  step,
  from: member.self,
  level: true,
  lineage: "",
  stateHash: "0123456789abcdef",
  shards: [],
  plan: null,
});

/** Bytes of floats, for comparison bit by bit. */
export const bytesOf = (floats: Float32Array): Buffer =>
  Buffer.from(floats.buffer, floats.byteOffset, floats.byteLength);

/** Sends everything that a member has to send in a step that has begun. */
export function publish(view: View, step: number, member: TestMember, options: MemberOptions): void {
  const { layout, shards, wire = "float32" } = options;
  const own = view.members.find(({ incarnation }) => incarnation === member.self)!;
  const nodes = computeNodes(member, options, own.shards, gradientsOf(layout, shards, step, wire));
  member.exchange.publishNodes(view.id, step, nodes);
  member.exchange.publishTrailer(trailerOf(view, member, step));
}

/** Begins a step at a member and sends everything that it has to send. */
export function takePart(view: View, step: number, member: TestMember, options: MemberOptions): void {
  member.exchange.begin(view.id, step);
  publish(view, step, member, options);
}

/** Every member gets the canonical sum of the step, in this view. */
export async function expectSum(
  view: View,
  step: number,
  members: readonly TestMember[],
  { layout, shards, wire = "float32" }: MemberOptions,
): Promise<void> {
  const expected = bytesOf(referenceSum(gradientsOf(layout, shards, step, wire), layout, wire));
  for (const member of members) {
    await member.waitFor("reduced", (event) => event.step === step && event.view.number === view.id.number);
    expect(bytesOf(member.reduced(step)).equals(expected)).toBe(true);
  }
}
