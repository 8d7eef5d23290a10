import type { Recipe } from "../../shared/config/schema.ts";
import { gradientDigest } from "../../shared/model/gradient-digest.ts";
import { BLOCK, type FloatRange, gapsOf, type Layout } from "../../shared/model/layout.ts";
import { childrenOf, maximalNodes, type ShardRange, sizeOf } from "../../shared/plan/tree.ts";
import type { ShardRecord } from "../../shared/protocol/trailer.ts";
import type { Arithmetic } from "../arithmetic/arithmetic.ts";
import type { ThreadFaults } from "../faults/thread-faults.ts";
import type { LoaderPool } from "../loader/pool.ts";
import type { Control } from "../memory/control.ts";
import type { HashedVector, MemoryPlan } from "../memory/plan.ts";
import type { ThreadSpans } from "../trace/thread-spans.ts";
import { damage, gradientFault } from "./gradient-fault.ts";
import { delayShard } from "./shard-delay.ts";
import type { ShardGradient } from "./shard-gradient.ts";

/** Blocks that are added and hashed at a time. */
const TILE = 8;

/** A finished maximal node of this worker's range: where its sum and its block hashes lie. */
export interface NodeBuffer {
  readonly range: ShardRange;
  readonly address: number;
  readonly table: number;
}

export interface ShardsDone {
  readonly nodes: readonly NodeBuffer[];
  readonly shards: readonly ShardRecord[];
}

/**
 * Computes the gradients of a range of shards, one micro-batch at a time, and adds them along the canonical tree into
 * the range's maximal nodes. Stops between micro-batches when `wanted` says that the step is not wanted any more.
 */
export class ShardSums {
  private readonly arithmetic: Arithmetic;
  private readonly memory: MemoryPlan;
  private readonly layout: Layout;
  private readonly recipe: Recipe;
  private readonly gradient: ShardGradient;
  private readonly loader: LoaderPool;
  private readonly control: Control;
  private readonly faults: Pick<ThreadFaults, "at">;
  private readonly spans: ThreadSpans | null;
  private readonly fault = gradientFault();
  private readonly gaps: readonly FloatRange[];
  private readonly recentMillis: number[] = [];

  constructor(parts: {
    arithmetic: Arithmetic;
    memory: MemoryPlan;
    layout: Layout;
    recipe: Recipe;
    gradient: ShardGradient;
    loader: LoaderPool;
    control: Control;
    faults: Pick<ThreadFaults, "at">;
    /** null: nothing is traced. */
    spans: ThreadSpans | null;
  }) {
    this.arithmetic = parts.arithmetic;
    this.memory = parts.memory;
    this.layout = parts.layout;
    this.recipe = parts.recipe;
    this.gradient = parts.gradient;
    this.loader = parts.loader;
    this.control = parts.control;
    this.faults = parts.faults;
    this.spans = parts.spans;
    this.gaps = gapsOf(parts.layout);
  }

  /** Null where the step was given up. */
  run(step: number, range: ShardRange, wanted: (shard: number) => boolean): ShardsDone | null {
    const free = [...this.memory.nodes];
    const shards: ShardRecord[] = [];
    const nodes: NodeBuffer[] = [];
    if (sizeOf(range) === 0) this.forgetSpeed();
    for (const node of maximalNodes(this.recipe.shards, range)) {
      const buffer = this.sum(step, node, free, shards, wanted, true);
      if (buffer === null) return null;
      nodes.push({ range: node, address: buffer.address, table: buffer.table });
    }
    return { nodes, shards };
  }

  /** @param whole it is a maximal node, which is sent: only there the hashes of its blocks are asked for */
  private sum(
    step: number,
    node: ShardRange,
    free: HashedVector[],
    shards: ShardRecord[],
    wanted: (shard: number) => boolean,
    whole: boolean,
  ): HashedVector | null {
    if (sizeOf(node) === 1) {
      if (!wanted(node.from)) return null;
      const buffer = free.pop()!;
      shards.push(this.shard(step, node.from, buffer));
      return buffer;
    }
    const [left, right] = childrenOf(node);
    const a = this.sum(step, left, free, shards, wanted, false);
    const b = a === null ? null : this.sum(step, right, free, shards, wanted, false);
    if (a === null || b === null) return null;
    const began = this.spans?.now() ?? 0;
    this.add(a, b.address, whole);
    this.spans?.add("sum", began, step, { shards: `${node.from}-${node.to - 1}` });
    free.push(b);
    return a;
  }

  /**
   * a += b; trainable sums are rounded to bfloat16 where the wire is, so that the bits do not depend on who adds. Blocks are
   * hashed while they are in the cache.
   */
  private add({ address, table }: HashedVector, b: number, hashed: boolean): void {
    const { arithmetic, layout, recipe } = this;
    const { trainableFloats, vectorFloats } = layout;
    const trainable = recipe.wire === "bf16" ? arithmetic.addBf16 : arithmetic.add;
    const pass = (add: Arithmetic["add"], start: number, end: number) => {
      for (let from = start; from < end; from += TILE * BLOCK) {
        const floats = Math.min(end - from, TILE * BLOCK);
        const at = address + from * 4;
        add(at, at, b + from * 4, floats);
        if (hashed) arithmetic.blockHashes(at, floats, table + (from / BLOCK) * 8);
      }
    };
    pass(trainable, 0, trainableFloats);
    pass(arithmetic.add, trainableFloats, vectorFloats);
  }

  private shard(step: number, shard: number, buffer: HashedVector): ShardRecord {
    const { arithmetic, layout, recipe, spans } = this;
    const started = performance.now();
    const taking = spans?.now() ?? 0;
    const batch = this.loader.take(step, shard);
    const loaded = performance.now();
    spans?.add("data", taking, step, { shard, samples: batch.samples });
    this.clear(buffer.address);
    const epoch = Math.floor(step / recipe.stepsPerEpoch);
    this.faults.at("forward");
    const passing = spans?.now() ?? 0;
    const { correct } = this.gradient.run({ ...batch, epoch, step, shard }, buffer.address);
    spans?.add("forward + backward", passing, step, { shard, samples: batch.samples });
    this.faults.at("backward");
    this.loader.release(batch.slot);
    const hashing = spans?.now() ?? 0;
    if (recipe.wire === "bf16") arithmetic.roundBf16(buffer.address, buffer.address, layout.trainableFloats);
    damage(this.fault, step, shard, this.words(buffer.address, layout.vectorFloats));
    arithmetic.blockHashes(buffer.address, layout.vectorFloats, buffer.table);
    const digest = gradientDigest(this.words(buffer.table, 2 * buffer.entries));
    spans?.add("hash gradient", hashing, step, { shard });
    delayShard(this.control.counters, performance.now() - loaded);
    this.account(loaded - started, performance.now() - loaded, batch.samples);
    return { shard, idsDigest: batch.digest, samples: batch.samples, correct, gradientDigest: digest };
  }

  /** Zeros wherever no tensor's gradient is written. */
  private clear(address: number): void {
    for (const { from, to } of this.gaps) this.arithmetic.zero(address + from * 4, (to - from) * 4);
  }

  private words(address: number, count: number): Uint32Array {
    return new Uint32Array(this.arithmetic.memory.buffer, address, count);
  }

  /** Without shards nothing is measured; what was measured before says little about a later return. */
  private forgetSpeed(): void {
    this.recentMillis.length = 0;
    this.control.counters.set("shardMillis", 0);
  }

  private account(loadingMillis: number, computeMillis: number, samples: number): void {
    const { counters } = this.control;
    counters.add("loadingMillis", loadingMillis);
    counters.add("computeMillis", computeMillis);
    counters.add("microBatches", 1);
    counters.add("images", samples);
    if (loadingMillis > 1) counters.add("loaderStalls", 1);
    this.recentMillis.push(loadingMillis + computeMillis);
    if (this.recentMillis.length > 31) this.recentMillis.shift();
    const sorted = [...this.recentMillis].sort((a, b) => a - b);
    counters.set("shardMillis", sorted[sorted.length >> 1]!);
  }
}
