import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { layoutOf } from "../../shared/model/layout.ts";
import { maximalNodes } from "../../shared/plan/tree.ts";
import type { Incarnation, View } from "../../shared/protocol/view.ts";
import { loadArithmeticSync } from "../../worker/arithmetic/arithmetic.ts";
import type { NodeBuffer } from "../../worker/compute/step.ts";
import { Exchange, type ExchangeEvent } from "../../worker/exchange/exchange.ts";
import { MemberServer } from "../../worker/exchange/member-server.ts";
import { createMemory, planMemory } from "../../worker/memory/plan.ts";

/**
 * Times the all-reduce between real processes on this machine:
 *
 *     node dist/test/bench/allreduce.js [members] [tries] [float32|bf16]
 *
 * From publishing all nodes to the whole reduced vector at every member, hashes checked; medians over `tries` steps, in
 * milliseconds, and the spread from the first to the third quartile. One JSON object a line.
 */

const SIZES_MB = [1, 4, 44.7];
const SHARDS = 8;
const BUCKET_BYTES = 4 << 20;
const WARM_UP = 5;

type Wire = "float32" | "bf16";

interface Setup {
  readonly index: number;
  readonly floats: number;
  readonly wire: Wire;
}

type ToChild = Setup | { readonly view: View } | { readonly step: number } | { readonly stop: true };
type FromChild = { readonly address: string } | { readonly millis: number; readonly cpuMillis: number };

const incarnationOf = (index: number) => `${index}`.padStart(16, "0") as Incarnation;

/** A member of the benchmark, told what to do by the process that started it. */
function runMember(): void {
  let act: ((message: ToChild) => void) | null = null;
  process.on("message", (message: ToChild) => {
    if ("stop" in message) process.exit(0);
    if ("floats" in message)
      void prepare(message).then((ready) => {
        act = ready;
      });
    else act?.(message);
  });
  process.on("disconnect", () => process.exit(0));
}

async function prepare({ index, floats, wire }: Setup): Promise<(message: ToChild) => void> {
  const self = incarnationOf(index);
  const layout = layoutOf([{ name: "kernel", shape: [floats], role: "kernel" }], BUCKET_BYTES);
  const plan = planMemory({
    layout,
    shards: SHARDS,
    optimizer: "sgd",
    ema: false,
    loaderSlots: 0,
    loaderBytes: 0,
    receiveBytes: 0,
  });
  const memory = createMemory(plan);
  const arithmetic = loadArithmeticSync(memory);
  /** Peers that have begun each step: some begin before us. */
  const begun = new Map<number, number>();
  let onEvent: (event: ExchangeEvent) => void = () => {};
  const exchange = new Exchange(
    { run: "bench", self, layout, shards: SHARDS, wire, memory, plan, arithmetic, redialFirst: 100, redialMax: 1000 },
    (event) => {
      if (event.kind === "corrupt" || event.kind === "lost") throw new Error(JSON.stringify(event));
      if (event.kind === "active") begun.set(event.step, (begun.get(event.step) ?? 0) + 1);
      onEvent(event);
    },
  );
  const server = new MemberServer();
  const address = await server.start("127.0.0.1", 0);
  const state = { arithmetic, live: 0, snapshot: 0, bytes: 0, liveStep: () => null, snapshotStep: () => null };
  server.serve({ run: "bench", exchange, state, entriesAt: () => null });
  let view: View | null = null;
  let nodes: NodeBuffer[] = [];

  const open = (opened: View) => {
    view = opened;
    const { shards } = opened.members[index]!;
    nodes = maximalNodes(SHARDS, shards).map((range, i) => ({ range, ...plan.nodes[i]! }));
    exchange.openView(opened);
  };
  /** Sums are made in the nodes' place, so that each step needs them afresh; that is not part of the time. */
  const fill = () => {
    nodes.forEach(({ address: at, table }, node) => {
      const vector = new Float32Array(memory.buffer, at, layout.vectorFloats);
      for (let i = 0; i < vector.length; i++) vector[i] = (i % 127) * (node + 1);
      arithmetic.blockHashes(at, layout.vectorFloats, table);
    });
  };
  const step = (number: number) => {
    fill();
    const { id, members } = view!;
    let clock: { readonly started: number; readonly cpu: NodeJS.CpuUsage } | null = null;
    onEvent = (event) => {
      // The clock starts when all are ready, so that it does not count the others' preparations.
      if (clock === null && begun.get(number) === members.length - 1) {
        clock = { started: performance.now(), cpu: process.cpuUsage() };
        exchange.publishNodes(id, number, nodes);
      }
      if (clock === null || event.kind !== "reduced" || event.step !== number) return;
      const { user, system } = process.cpuUsage(clock.cpu);
      process.send!({
        millis: performance.now() - clock.started,
        cpuMillis: (user + system) / 1000,
      } satisfies FromChild);
      onEvent = () => {};
      begun.delete(number);
    };
    exchange.begin(id, number);
    onEvent({ kind: "active", view: id, step: number });
  };
  process.send!({ address } satisfies FromChild);
  return (message) => {
    if ("view" in message) open(message.view);
    else if ("step" in message) step(message.step);
  };
}

const next = <T extends FromChild>(child: ChildProcess) =>
  new Promise<T>((resolve, reject) => {
    const failed = (code: number | null) => reject(new Error(`a member ended with ${code}`));
    child.once("exit", failed);
    child.once("message", (message) => {
      child.off("exit", failed);
      resolve(message as T);
    });
  });

async function measure(members: number, megabytes: number, tries: number, wire: Wire): Promise<object> {
  const children = Array.from({ length: members }, () => fork(fileURLToPath(import.meta.url), ["member"]));
  try {
    const floats = Math.floor((megabytes * 1e6) / 4);
    const addresses = await Promise.all(
      children.map((child, index) => {
        child.send({ index, floats, wire } satisfies ToChild);
        return next<{ address: string }>(child);
      }),
    );
    const view: View = {
      id: { term: 1, number: 1 },
      predecessor: null,
      kind: "train",
      members: addresses.map(({ address }, i) => ({
        incarnation: incarnationOf(i),
        address,
        shards: { from: Math.floor((i * SHARDS) / members), to: Math.floor(((i + 1) * SHARDS) / members) },
        entry: "level",
      })),
    };
    for (const child of children) child.send({ view } satisfies ToChild);
    const all: { millis: number; cpuMillis: number }[] = [];
    for (let step = 0; step < WARM_UP + tries; step++) {
      const results = await Promise.all(
        children.map((child) => {
          const result = next<{ millis: number; cpuMillis: number }>(child);
          child.send({ step } satisfies ToChild);
          return result;
        }),
      );
      const millis = Math.max(...results.map((result) => result.millis));
      const cpuMillis = results.reduce((sum, result) => sum + result.cpuMillis, 0);
      if (step >= WARM_UP) all.push({ millis, cpuMillis });
    }
    const millis = all.map((result) => result.millis).sort((a, b) => a - b);
    const cpu = all.map((result) => result.cpuMillis).sort((a, b) => a - b);
    const at = (list: readonly number[], part: number) =>
      Math.round(list[Math.floor((list.length - 1) * part)]! * 100) / 100;
    return {
      members,
      megabytes,
      wire,
      tries,
      medianMillis: at(millis, 0.5),
      quartilesMillis: [at(millis, 0.25), at(millis, 0.75)],
      medianCpuMillis: at(cpu, 0.5),
    };
  } finally {
    for (const child of children) child.send({ stop: true } satisfies ToChild);
  }
}

if (process.argv[2] === "member") runMember();
else {
  const members = Number(process.argv[2] ?? 2);
  const tries = Number(process.argv[3] ?? 20);
  const wire: Wire = process.argv[4] === "bf16" ? "bf16" : "float32";
  for (const megabytes of SIZES_MB) {
    process.stdout.write(`${JSON.stringify(await measure(members, megabytes, tries, wire))}\n`);
  }
}
