import { layoutOf } from "../../shared/model/layout.ts";
import { maximalNodes } from "../../shared/plan/tree.ts";
import type { Incarnation, View } from "../../shared/protocol/view.ts";
import type { Trust } from "../../shared/security/trust.ts";
import { loadArithmeticSync } from "../arithmetic/arithmetic.ts";
import type { NodeBuffer } from "../compute/step.ts";
import type { WireFormat } from "../exchange/chunk.ts";
import { Exchange, type ExchangeEvent } from "../exchange/exchange.ts";
import type { MemberServer } from "../exchange/member-server.ts";
import { copyHashed, createMemory, planMemory } from "../memory/plan.ts";

const BUCKET_BYTES = 4 << 20;

export interface BenchMemberOptions {
  /** Place in the view. */
  readonly index: number;
  readonly self: Incarnation;
  /** Of the gradients. */
  readonly floats: number;
  readonly wire: WireFormat;
  /** V. */
  readonly shards: number;
  /** By which connections are secured; null: they are not. */
  readonly trust?: Trust | null;
}

/** What one exchange took here. */
export interface Exchanged {
  /** From publishing the own nodes to the end. */
  readonly millis: number;
  readonly cpuMillis: number;
  readonly bytesSent: number;
}

/** A member of a view that exchanges gradients as a worker does, and computes none. */
export class BenchMember {
  readonly #exchange: Exchange;
  readonly #options: BenchMemberOptions;
  /** Of peers, by step: some are a step ahead of us. */
  readonly #begun = new Map<number, number>();
  readonly #trailers = new Map<number, number>();
  readonly #reduced = new Set<number>();
  readonly #refill: (nodes: readonly NodeBuffer[]) => void;
  readonly #nodesOf: (view: View) => NodeBuffer[];
  #view: View | null = null;
  #waiting: { holds(): boolean; resolve(): void } | null = null;

  constructor(options: BenchMemberOptions, server: MemberServer) {
    const { index, self, floats, wire, shards, trust = null } = options;
    const layout = layoutOf([{ name: "kernel", shape: [floats], role: "kernel" }], BUCKET_BYTES);
    const needs = { optimizer: "sgd", ema: false, loaderSlots: 0, loaderBytes: 0, receiveBytes: 0 } as const;
    const plan = planMemory({ layout, shards, ...needs });
    const memory = createMemory(plan);
    const arithmetic = loadArithmeticSync(memory);
    const redial = { redialFirst: 100, redialMax: 1000 };
    this.#options = options;
    this.#exchange = new Exchange(
      { run: "bench", self, layout, shards, wire, memory, plan, arithmetic, trust, ...redial },
      (event) => this.#onEvent(event),
    );
    const state = { arithmetic, live: 0, snapshot: 0, bytes: 0, liveStep: () => null, snapshotStep: () => null };
    server.serve({ run: "bench", exchange: this.#exchange, state, entriesAt: () => null });
    this.#nodesOf = (view) =>
      maximalNodes(shards, view.members[index]!.shards).map((range, i) => ({ range, ...plan.nodes[i]! }));
    // A range of shards never needs the last buffer for a node of its own.
    const spare = plan.nodes.at(-1)!;
    const vector = new Float32Array(memory.buffer, spare.address, layout.vectorFloats);
    // Small whole numbers: bfloat16 holds them exactly.
    for (let i = 0; i < vector.length; i++) vector[i] = i % 127;
    arithmetic.blockHashes(spare.address, layout.vectorFloats, spare.table);
    this.#refill = (nodes) => {
      for (const { address, table } of nodes) copyHashed(arithmetic, { ...spare, address, table }, spare);
    };
  }

  open(view: View): void {
    this.#view = view;
    this.#exchange.openView(view);
  }

  /**
   * Makes the nodes of a step afresh, since sums are made in their place, and waits until all members have done so.
   * Then from publishing them to the whole reduced vector, hashes checked.
   */
  async allReduce(step: number): Promise<Exchanged> {
    const { id, members } = this.#view!;
    this.#refill(this.#nodesOf(this.#view!));
    this.#exchange.begin(id, step);
    // So that the time does not count the others' preparations.
    await this.#until(() => this.#begun.get(step) === members.length - 1);
    return this.#publish(step, false);
  }

  /** A step of a worker: begin, compute, nodes and trailer, everybody's sums and trailers. */
  async step(number: number, compute: () => Promise<unknown>): Promise<Exchanged> {
    this.#exchange.begin(this.#view!.id, number);
    this.#refill(this.#nodesOf(this.#view!));
    await compute();
    return this.#publish(number, true);
  }

  async #publish(step: number, trailer: boolean): Promise<Exchanged> {
    const { id, members } = this.#view!;
    const nodes = this.#nodesOf(this.#view!);
    const before = this.#exchange.bytesSent;
    const started = performance.now();
    const cpu = process.cpuUsage();
    this.#exchange.publishNodes(id, step, nodes);
    if (trailer) this.#publishTrailer(step);
    const trailers = trailer ? members.length - 1 : 0;
    await this.#until(() => this.#reduced.has(step) && (this.#trailers.get(step) ?? 0) >= trailers);
    const millis = performance.now() - started;
    const { user, system } = process.cpuUsage(cpu);
    for (const counts of [this.#begun, this.#trailers, this.#reduced]) counts.delete(step);
    return { millis, cpuMillis: (user + system) / 1000, bytesSent: this.#exchange.bytesSent - before };
  }

  #publishTrailer(step: number): void {
    const { id, members } = this.#view!;
    const { from, to } = members[this.#options.index]!.shards;
    const hex = (value: number, digits: number) => value.toString(16).padStart(digits, "0");
    this.#exchange.publishTrailer({
      ...{ view: id, step, from: this.#options.self, level: true, lineage: hex(step, 64), stateHash: hex(step, 16) },
      shards: Array.from({ length: to - from }, (_, i) => ({
        ...{ shard: from + i, idsDigest: hex(i, 16), samples: 16, correct: 0, gradientDigest: hex(i, 16) },
      })),
      plan: null,
    });
  }

  #onEvent(event: ExchangeEvent): void {
    if (event.kind === "corrupt" || event.kind === "lost") throw new Error(JSON.stringify(event));
    const count = (counts: Map<number, number>, step: number) => counts.set(step, (counts.get(step) ?? 0) + 1);
    if (event.kind === "active") count(this.#begun, event.step);
    else if (event.kind === "trailer") count(this.#trailers, event.trailer.step);
    else this.#reduced.add(event.step);
    if (this.#waiting?.holds() !== true) return;
    const { resolve } = this.#waiting;
    this.#waiting = null;
    resolve();
  }

  #until(holds: () => boolean): Promise<void> {
    if (holds()) return Promise.resolve();
    return new Promise((resolve) => {
      this.#waiting = { holds, resolve };
    });
  }
}
