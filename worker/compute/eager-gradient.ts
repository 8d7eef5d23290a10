import type { Tensor } from "@tensorflow/tfjs-core";
import type { Layout } from "../../shared/model/layout.ts";
import type { BackwardPass, PassInputs } from "./backward-pass.ts";
import type { GradientVector } from "./gradient-vector.ts";
import type { BatchStatistics } from "./kernels.ts";
import type { Execution } from "./shard-gradient.ts";
import type { TensorFlow } from "./tensorflow.ts";
import { drawMask, type MaskDraw, type MicroBatchKey } from "./training-mode.ts";

/** One call into TensorFlow for every operation; each gradient is written as soon as it exists. */
export class EagerGradient implements Execution {
  private readonly tf: TensorFlow;
  private readonly pass: BackwardPass;
  private readonly layout: Layout;

  constructor(tf: TensorFlow, pass: BackwardPass, layout: Layout) {
    this.tf = tf;
    this.pass = pass;
    this.layout = layout;
  }

  run(inputs: PassInputs, key: MicroBatchKey, into: GradientVector): { loss: number; correct: number } {
    const observer = {
      gradient: (index: number, gradient: Tensor) => into.gradient(index, gradient.dataSync() as Float32Array),
      statistics: (layer: string, { mean, variance }: BatchStatistics) => {
        const { statistics } = this.layout;
        into.statistic(statisticIndex(statistics, layer, "mean"), mean.dataSync() as Float32Array);
        into.statistic(statisticIndex(statistics, layer, "variance"), variance.dataSync() as Float32Array);
      },
      mask: (draw: MaskDraw, shape: number[]) => this.tf.tensor(drawMask(key, draw, sizeOf(shape)), shape),
    };
    return this.pass.run(inputs, observer, (loss, correct) => ({
      loss: loss.dataSync()[0]!,
      correct: correct.dataSync()[0]!,
    }));
  }

  dispose(): void {}
}

const sizeOf = (shape: readonly number[]) => shape.reduce((product, extent) => product * extent, 1);

/** Index in layout.statistics. */
export function statisticIndex(statistics: Layout["statistics"], layer: string, kind: "mean" | "variance"): number {
  return statistics.findIndex(({ name }) => name === `${layer}/moving_${kind}`);
}
