import { layoutOf } from "../../shared/model/layout.ts";
import { maximalNodes } from "../../shared/plan/tree.ts";
import type { Incarnation, View } from "../../shared/protocol/view.ts";
import { bindingOf } from "../../shared/rpc/service.ts";
import { loadArithmeticSync } from "../arithmetic/arithmetic.ts";
import type { NodeBuffer } from "../compute/step.ts";
import { Exchange, type ExchangeEvent } from "../exchange/exchange.ts";
import { MemberServer } from "../exchange/member-server.ts";
import { createMemory, planMemory } from "../memory/plan.ts";
import { type AllreduceReply, type AllreduceRequest, SHARDS } from "./allreduce.ts";
import { BareTransfer } from "./bare-transfer.ts";

/** One member of `bench allreduce`: does what the process that started it says. */
const BUCKET_BYTES = 4 << 20;

type Setup = Extract<AllreduceRequest, { readonly kind: "setup" }>;

const reply = (message: AllreduceReply) => void process.send!(message);

class BenchMember {
  readonly #exchange: Exchange;
  readonly #bare: BareTransfer;
  readonly #index: number;
  readonly #fill: (nodes: readonly NodeBuffer[]) => void;
  readonly #nodesOf: (view: View) => NodeBuffer[];
  /** Peers that have begun each step: some begin before us. */
  readonly #begun = new Map<number, number>();
  #onEvent: (event: ExchangeEvent) => void = () => {};
  #view: View | null = null;

  constructor({ index, self, floats, wire }: Setup, server: MemberServer, bare: BareTransfer) {
    const layout = layoutOf([{ name: "kernel", shape: [floats], role: "kernel" }], BUCKET_BYTES);
    const needs = { optimizer: "sgd", ema: false, loaderSlots: 0, loaderBytes: 0, receiveBytes: 0 } as const;
    const plan = planMemory({ layout, shards: SHARDS, ...needs });
    const memory = createMemory(plan);
    const arithmetic = loadArithmeticSync(memory);
    const redial = { redialFirst: 100, redialMax: 1000 };
    this.#index = index;
    this.#bare = bare;
    this.#exchange = new Exchange(
      { run: "bench", self, layout, shards: SHARDS, wire, memory, plan, arithmetic, ...redial },
      (event) => {
        if (event.kind === "corrupt" || event.kind === "lost") throw new Error(JSON.stringify(event));
        if (event.kind === "active") this.#begun.set(event.step, (this.#begun.get(event.step) ?? 0) + 1);
        this.#onEvent(event);
      },
    );
    const state = { arithmetic, live: 0, snapshot: 0, bytes: 0, liveStep: () => null, snapshotStep: () => null };
    server.serve({ run: "bench", exchange: this.#exchange, state, entriesAt: () => null });
    this.#nodesOf = (view) =>
      maximalNodes(SHARDS, view.members[index]!.shards).map((range, i) => ({ range, ...plan.nodes[i]! }));
    this.#fill = (nodes) => {
      nodes.forEach(({ address, table }, node) => {
        const vector = new Float32Array(memory.buffer, address, layout.vectorFloats);
        for (let i = 0; i < vector.length; i++) vector[i] = (i % 127) * (node + 1);
        arithmetic.blockHashes(address, layout.vectorFloats, table);
      });
    };
  }

  open(view: View, bare: readonly string[]): void {
    this.#view = view;
    this.#exchange.openView(view);
    this.#bare.connect(bare.filter((_, i) => i !== this.#index));
  }

  /** From publishing all nodes to the whole reduced vector, hashes checked. */
  step(number: number): void {
    const { id, members } = this.#view!;
    const nodes = this.#nodesOf(this.#view!);
    const before = this.#exchange.bytesSent;
    // Sums are made in the nodes' place, so that each step needs them afresh; that is not part of the time.
    this.#fill(nodes);
    let clock: { readonly started: number; readonly cpu: NodeJS.CpuUsage } | null = null;
    this.#onEvent = (event) => {
      // The clock starts when all are ready, so that it does not count the others' preparations.
      if (clock === null && this.#begun.get(number) === members.length - 1) {
        clock = { started: performance.now(), cpu: process.cpuUsage() };
        this.#exchange.publishNodes(id, number, nodes);
      }
      if (clock === null || event.kind !== "reduced" || event.step !== number) return;
      const millis = performance.now() - clock.started;
      const { user, system } = process.cpuUsage(clock.cpu);
      this.#onEvent = () => {};
      this.#begun.delete(number);
      const bytesSent = this.#exchange.bytesSent - before;
      reply({ kind: "reduced", millis, cpuMillis: (user + system) / 1000, bytesSent });
    };
    this.#exchange.begin(id, number);
    this.#onEvent({ kind: "active", view: id, step: number });
  }

  async bare(bytesToPeer: number): Promise<void> {
    const cpu = process.cpuUsage();
    const millis = await this.#bare.run(bytesToPeer);
    const { user, system } = process.cpuUsage(cpu);
    reply({ kind: "reduced", millis, cpuMillis: (user + system) / 1000, bytesSent: 0 });
  }
}

let member: BenchMember | null = null;

async function setUp(setup: Setup): Promise<void> {
  const server = new MemberServer();
  const bare = new BareTransfer(setup.self as Incarnation);
  const address = await server.start(bindingOf("127.0.0.1"));
  member = new BenchMember(setup, server, bare);
  reply({ kind: "listening", address, bare: await bare.start() });
}

process.on("message", (request: AllreduceRequest) => {
  if (request.kind === "setup") void setUp(request);
  else if (request.kind === "view") member!.open(request.view, request.bare);
  else if (request.kind === "step") member!.step(request.step);
  else if (request.kind === "bare") void member!.bare(request.bytesToPeer);
  else process.exit(0);
});
process.on("disconnect", () => process.exit(0));
