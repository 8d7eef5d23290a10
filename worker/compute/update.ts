import type { Recipe } from "../../shared/config/schema.ts";
import { type Layout, TAIL, type TensorSlot } from "../../shared/model/layout.ts";
import type { Arithmetic } from "../arithmetic/arithmetic.ts";
import { biasCorrection, emaDecay } from "../arithmetic/coefficients.ts";
import type { MemoryPlan } from "../memory/plan.ts";

/** Consecutive tensors of one treatment: [from, to) in floats. */
interface Run {
  readonly from: number;
  readonly to: number;
  readonly decay: boolean;
}

export interface UpdateResult {
  /** Mean loss over the step's samples. */
  readonly loss: number;
  /** L2 norm of the mean gradient. */
  readonly gradientNorm: number;
  /** False where loss or norm is not finite: the update was the identity. */
  readonly applied: boolean;
}

/**
 * The whole optimizer update of one step, in place in the state image, on every worker alike: weights and slots from the
 * reduced gradient sums, moving statistics from the reduced batch statistics, then the moving average of both.
 */
export class Update {
  private readonly arithmetic: Arithmetic;
  private readonly memory: MemoryPlan;
  private readonly layout: Layout;
  private readonly recipe: Recipe;
  private readonly runs: readonly Run[];

  constructor(arithmetic: Arithmetic, memory: MemoryPlan, layout: Layout, recipe: Recipe) {
    this.arithmetic = arithmetic;
    this.memory = memory;
    this.layout = layout;
    this.recipe = recipe;
    this.runs = runsOf(layout.trainable, layout.trainableFloats);
  }

  /**
   * Applies step `step`. `reduced` is the byte address of the reduced vector, `samples` the global count that the plan
   * gives this step.
   */
  apply(step: number, reduced: number, samples: number): UpdateResult {
    const { arithmetic, layout } = this;
    const inverse = 1 / samples;
    const norm = Math.sqrt(arithmetic.sumOfSquares(reduced, layout.trainableFloats)) * inverse;
    const tail = new Float32Array(arithmetic.memory.buffer, reduced + layout.stateFloats * 4, 3);
    const loss = tail[TAIL.loss]! * inverse;
    const applied = Number.isFinite(norm) && Number.isFinite(loss) && arithmetic.allFinite(reduced, layout.stateFloats);
    if (applied) this.move(step, reduced, inverse);
    return { loss, gradientNorm: norm, applied };
  }

  private move(step: number, reduced: number, inverse: number): void {
    const { arithmetic, layout, recipe } = this;
    const { weights, slots, ema } = this.memory.state;
    const learningRate = recipe.learningRates[step]!;
    for (const { from, to, decay } of this.runs) {
      this.optimize(step, { from, to, decay }, { weights, slots, reduced, learningRate, inverse });
    }
    if (layout.statisticsFloats > 0) {
      const at = layout.trainableFloats * 4;
      const { statisticsMomentum } = recipe.model;
      arithmetic.movingStatistics(weights + at, reduced + at, layout.statisticsFloats, statisticsMomentum, inverse);
    }
    if (ema !== null && recipe.ema !== null) {
      arithmetic.ema(ema, weights, layout.stateFloats, emaDecay(recipe.ema.decay, step + 1));
    }
  }

  private optimize(
    step: number,
    { from, to, decay }: Run,
    at: { weights: number; slots: readonly number[]; reduced: number; learningRate: number; inverse: number },
  ): void {
    const { optimizer } = this.recipe;
    const offset = from * 4;
    const weightDecay = decay ? optimizer.weightDecay : 0;
    const common = { learningRate: at.learningRate, weightDecay, inverseCount: at.inverse };
    const [first, second] = at.slots;
    if (optimizer.kind === "sgd") {
      const { momentum, nesterov } = optimizer;
      const settings = { ...common, momentum, nesterov };
      this.arithmetic.sgd(at.weights + offset, first! + offset, at.reduced + offset, to - from, settings);
    } else {
      const { beta1, beta2, epsilon } = optimizer;
      const biasCorrection1 = biasCorrection(beta1, step + 1);
      const biasCorrection2 = biasCorrection(beta2, step + 1);
      const settings = { ...common, beta1, beta2, epsilon, biasCorrection1, biasCorrection2 };
      const gradient = at.reduced + offset;
      this.arithmetic.adamw(at.weights + offset, first! + offset, second! + offset, gradient, to - from, settings);
    }
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
