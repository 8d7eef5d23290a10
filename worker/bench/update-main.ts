import { BLOCK, layoutOf, type TensorSpec } from "../../shared/model/layout.ts";
import { type Arithmetic, loadArithmeticSync } from "../arithmetic/arithmetic.ts";
import { Update } from "../compute/update.ts";
import { createMemory, type MemoryPlan, planMemory } from "../memory/plan.ts";
import { spreadOf } from "./spread.ts";

/**
 * Prints what the end of a step costs the compute thread: checking the reduced vector, the update, the hash of the new
 * state; as Update does it with two passes over memory, and in passes one by one, whose state is the same; beside a plain
 * copy of as many bytes as the two passes read and write. `node dist/worker/bench/update-main.js [million parameters]`
 */
const PARAMETERS = Number(process.argv[2] ?? 4.36) * 1e6;
const WARM_UP = 12;
const RUNS = 15;
const DECAY = 0.998;

const width = 384;
const convolution: readonly Omit<TensorSpec, "name">[] = [
  { shape: [3, 3, width, width], role: "kernel" },
  { shape: [width], role: "gamma" },
  { shape: [width], role: "beta" },
  { shape: [width], role: "movingMean" },
  { shape: [width], role: "movingVariance" },
];
const layers = Math.max(1, Math.round(PARAMETERS / (9 * width * width)));
const tensors = Array.from({ length: layers }, (_, layer) =>
  convolution.map((tensor) => ({ ...tensor, name: `${layer}/${tensor.role}` })),
).flat();
const layout = layoutOf(tensors, 4 << 20);
const needs = { layout, shards: 2, optimizer: "sgd", ema: true, loaderSlots: 1, loaderBytes: 4 } as const;
const plan = planMemory({ ...needs, receiveBytes: 65536 });
const memory = createMemory(plan);
const arithmetic = loadArithmeticSync(memory);

const optimizer = { kind: "sgd", momentum: 0.9, nesterov: true, weightDecay: 5e-4 } as const;
const model = { name: "bench", options: {}, sourceSha256: null, statisticsMomentum: 0.9 };
const recipe = { optimizer, ema: { decay: DECAY }, learningRates: Array<number>(RUNS + WARM_UP).fill(1e-3), model };
const update = new Update(arithmetic, plan, layout, recipe);

const { state } = plan;
const [reduced] = plan.reduced;
const floatsAt = (address: number, floats: number) => new Float32Array(memory.buffer, address, floats);
const start = (): void => {
  for (const values of [floatsAt(state.address, state.floats), floatsAt(reduced.address, reduced.floats)])
    values.forEach((_, i) => {
      values[i] = (((i * 2654435761) >>> 0) / 2 ** 32 - 0.5) * 0.1;
    });
  arithmetic.blockHashes(reduced.address, reduced.floats, reduced.table);
};

/** Read: the gradient twice, the state once; written: the state. */
const bytes = 2 * reduced.bytes + 2 * state.bytes;

const variants: Readonly<Record<string, (step: number) => void>> = {
  copy: () => copies(arithmetic, plan, bytes),
  "passes one by one": (step) => {
    passes(step);
  },
  "two passes": (step) => {
    const { squares } = update.examine(reduced);
    update.apply(step, reduced.address, 128, squares);
    update.stateHash();
  },
};

function passes(step: number): void {
  const inverseCount = 1 / 128;
  const { weights, slots, ema } = state;
  const { trainableFloats, stateFloats, statisticsFloats } = layout;
  arithmetic.blockHashes(reduced.address, reduced.floats, plan.checkTable);
  arithmetic.sumOfSquares(reduced.address, trainableFloats);
  arithmetic.allFinite(reduced.address, stateFloats);
  layout.trainable.forEach(({ offset, decay }, i) => {
    const at = offset * 4;
    const to = layout.trainable[i + 1]?.offset ?? trainableFloats;
    const weightDecay = decay ? optimizer.weightDecay : 0;
    const settings = { ...optimizer, learningRate: 1e-3, weightDecay, inverseCount };
    arithmetic.sgd(weights + at, slots[0]! + at, reduced.address + at, to - offset, settings);
  });
  const at = trainableFloats * 4;
  arithmetic.movingStatistics(weights + at, reduced.address + at, statisticsFloats, 0.9, inverseCount);
  arithmetic.ema(ema!, weights, stateFloats, Math.min(DECAY, (step + 1) / (step + 21)));
  arithmetic.blockHashes(state.address, state.floats, state.table);
}

/** Reads and writes this many bytes by copies between regions that no cache holds. */
function copies({ copy }: Arithmetic, { snapshot, state: { address } }: MemoryPlan, total: number): void {
  for (let left = total / 2; left > 0; left -= snapshot.bytes)
    copy(snapshot.address, address, Math.min(left, snapshot.bytes));
}

const megabytes = (count: number) => `${(count / 1e6).toFixed(0)} MB`;
console.log(
  `${layers} layers, state ${megabytes(state.bytes)}, gradient ${megabytes(reduced.bytes)}, blocks of ${BLOCK}`,
);
for (const [name, run] of Object.entries(variants)) {
  start();
  const times = Array.from({ length: WARM_UP + RUNS }, (_, step) => {
    const began = performance.now();
    run(step);
    return performance.now() - began;
  });
  const hash = arithmetic.xxh64(state.address, state.bytes).toString(16);
  const { median: millis } = spreadOf(times.slice(WARM_UP));
  const rate = bytes / millis / 1e6;
  console.log(`${name.padEnd(18)} ${millis.toFixed(1).padStart(6)} ms ${rate.toFixed(1).padStart(6)} GB/s  ${hash}`);
}
