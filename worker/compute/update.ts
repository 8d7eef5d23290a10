import type { Recipe } from "../../shared/config/schema.ts";
import { BLOCK, type Layout, TAIL, type TensorSlot } from "../../shared/model/layout.ts";
import { type AdamwSettings, type Arithmetic, hex64, type SgdSettings } from "../arithmetic/arithmetic.ts";
import { biasCorrection, emaDecay } from "../arithmetic/coefficients.ts";
import type { HashedVector, MemoryPlan } from "../memory/plan.ts";

/** Consecutive tensors of one treatment: [from, to) in floats. */
interface Run {
  readonly from: number;
  readonly to: number;
  readonly decay: boolean;
}

/** What one pass over a reduced vector found. */
export interface Examined {
  /** Its blocks still have the hashes that were taken when they were summed or came. */
  readonly sound: boolean;
  /** Hash of the whole vector, 16 hex digits. */
  readonly hash: string;
  /** Sum of squares of the trainable sums; finite exactly when all of them are. */
  readonly squares: number;
}

export interface UpdateResult {
  /** Mean loss over the step's samples. */
  readonly loss: number;
  /** L2 norm of the mean gradient. */
  readonly gradientNorm: number;
  /** False where loss or norm is not finite: the update was the identity. */
  readonly applied: boolean;
}

/** Applies the step to floats [from, to) of the trainable section. */
type Optimize = (from: number, to: number, decay: boolean) => void;

/** Blocks that are updated and hashed at a time: weights, slots, average and gradient of a tile stay in the core's cache. */
const TILE = 4;
const HASH_BYTES = 8;

/**
 * The whole optimizer update of one step, in place in the state image, on every worker alike: weights and slots from the
 * reduced gradient sums, moving statistics from the reduced batch statistics, then the moving average of both. It goes
 * over memory once, tile by tile, and hashes each tile of the new state while it is in the cache.
 */
export class Update {
  private readonly arithmetic: Arithmetic;
  private readonly memory: Pick<MemoryPlan, "state" | "checkTable">;
  private readonly layout: Layout;
  private readonly recipe: Pick<Recipe, "optimizer" | "ema" | "learningRates" | "model">;
  private readonly runs: readonly Run[];

  constructor(
    arithmetic: Arithmetic,
    memory: Pick<MemoryPlan, "state" | "checkTable">,
    layout: Layout,
    recipe: Pick<Recipe, "optimizer" | "ema" | "learningRates" | "model">,
  ) {
    this.arithmetic = arithmetic;
    this.memory = memory;
    this.layout = layout;
    this.recipe = recipe;
    this.runs = runsOf(layout.trainable, layout.trainableFloats);
  }

  /**
   * Everything that has to be known of a reduced vector before it is applied, by one pass. Only reads what the main
   * thread may already fill anew, where it has closed the commit word meanwhile.
   */
  examine({ address, floats, table, entries }: HashedVector): Examined {
    const { arithmetic, layout } = this;
    const { checkTable } = this.memory;
    const trainable = layout.trainableFloats;
    const rest = checkTable + (trainable / BLOCK) * HASH_BYTES;
    const squares = arithmetic.hashedSquares(address, trainable, checkTable);
    arithmetic.blockHashes(address + trainable * 4, floats - trainable, rest);
    const bytes = Buffer.from(arithmetic.memory.buffer);
    const end = entries * HASH_BYTES;
    const sound = bytes.compare(bytes, table, table + end, checkTable, checkTable + end) === 0;
    return { sound, hash: hex64(arithmetic.hashTable(checkTable, entries)), squares };
  }

  /**
   * Applies step `step` and leaves the hashes of the new state's blocks in its table. `reduced` is the byte address of the
   * reduced vector, `squares` what `examine` found in it, `samples` the global count that the plan gives this step.
   */
  apply(step: number, reduced: number, samples: number, squares: number): UpdateResult {
    const { arithmetic, layout } = this;
    const inverse = 1 / samples;
    const norm = Math.sqrt(squares) * inverse;
    const tail = new Float32Array(arithmetic.memory.buffer, reduced + layout.stateFloats * 4, 3);
    const loss = tail[TAIL.loss]! * inverse;
    // The norm is finite exactly when all gradients are; the statistics are not in it.
    const statistics = () => arithmetic.allFinite(reduced + layout.trainableFloats * 4, layout.statisticsFloats);
    const applied = Number.isFinite(norm) && Number.isFinite(loss) && statistics();
    if (applied) this.move(step, reduced, inverse);
    else this.hashAll();
    return { loss, gradientNorm: norm, applied };
  }

  /** Hash of the whole state from the table that `apply` has filled. */
  stateHash(): string {
    const { table, entries } = this.memory.state;
    return hex64(this.arithmetic.hashTable(table, entries));
  }

  private hashAll(): void {
    const { address, floats, table } = this.memory.state;
    this.arithmetic.blockHashes(address, floats, table);
  }

  private move(step: number, reduced: number, inverse: number): void {
    const { layout, recipe } = this;
    const optimize = this.optimizer(step, reduced, inverse);
    const decay = recipe.ema === null ? 0 : emaDecay(recipe.ema.decay, step + 1);
    const { trainableFloats, stateFloats } = layout;
    const tile = TILE * BLOCK;
    let next = 0;
    for (let from = 0; from < trainableFloats; from += tile) {
      const to = Math.min(trainableFloats, from + tile);
      for (; next < this.runs.length && this.runs[next]!.from < to; next++) {
        const run = this.runs[next]!;
        optimize(Math.max(from, run.from), Math.min(to, run.to), run.decay);
        if (run.to > to) break;
      }
      this.conclude(from, to, decay);
    }
    for (let from = trainableFloats; from < stateFloats; from += tile) {
      const to = Math.min(stateFloats, from + tile);
      this.moveStatistics(from, to, reduced, inverse);
      this.conclude(from, to, decay);
    }
  }

  /** The average follows the new weights [from, to); then all that belongs to them is hashed. */
  private conclude(from: number, to: number, decay: number): void {
    const { arithmetic, layout } = this;
    const { weights, slots, ema } = this.memory.state;
    if (ema !== null) {
      arithmetic.ema(ema + from * 4, weights + from * 4, to - from, decay);
      this.hash(ema, from, to);
    }
    this.hash(weights, from, to);
    if (from < layout.trainableFloats) for (const slot of slots) this.hash(slot, from, to);
  }

  private hash(vector: number, from: number, to: number): void {
    const { address, table } = this.memory.state;
    const at = vector + from * 4;
    this.arithmetic.blockHashes(at, to - from, table + ((at - address) / (BLOCK * 4)) * HASH_BYTES);
  }

  private moveStatistics(from: number, to: number, reduced: number, inverse: number): void {
    const { weights } = this.memory.state;
    const { statisticsMomentum } = this.recipe.model;
    this.arithmetic.movingStatistics(weights + from * 4, reduced + from * 4, to - from, statisticsMomentum, inverse);
  }

  private optimizer(step: number, reduced: number, inverseCount: number): Optimize {
    const { arithmetic } = this;
    const { optimizer, learningRates } = this.recipe;
    const { weights, slots } = this.memory.state;
    const [first, second] = slots;
    const learningRate = learningRates[step]!;
    if (optimizer.kind === "sgd") {
      const { momentum, nesterov, weightDecay } = optimizer;
      const free: SgdSettings = { learningRate, momentum, nesterov, weightDecay: 0, inverseCount };
      const decayed: SgdSettings = { ...free, weightDecay };
      return (from, to, decay) => {
        const at = from * 4;
        arithmetic.sgd(weights + at, first! + at, reduced + at, to - from, decay ? decayed : free);
      };
    }
    const { beta1, beta2, epsilon, weightDecay } = optimizer;
    const biasCorrection1 = biasCorrection(beta1, step + 1);
    const biasCorrection2 = biasCorrection(beta2, step + 1);
    const betas = { beta1, beta2, epsilon, biasCorrection1, biasCorrection2 };
    const free: AdamwSettings = { learningRate, ...betas, weightDecay: 0, inverseCount };
    const decayed: AdamwSettings = { ...free, weightDecay };
    return (from, to, decay) => {
      const at = from * 4;
      arithmetic.adamw(weights + at, first! + at, second! + at, reduced + at, to - from, decay ? decayed : free);
    };
  }
}

/** Neighbours of one treatment become one call; padding behind a tensor is zero and stays zero. */
function runsOf(tensors: readonly TensorSlot[], end: number): Run[] {
  const runs: { from: number; to: number; decay: boolean }[] = [];
  tensors.forEach((tensor, i) => {
    const to = tensors[i + 1]?.offset ?? end;
    const last = runs.at(-1);
    if (last?.decay === tensor.decay) last.to = to;
    else runs.push({ from: tensor.offset, to, decay: tensor.decay });
  });
  return runs;
}
