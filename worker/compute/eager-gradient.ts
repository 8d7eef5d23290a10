import type { BackwardPass, PassInputs, PassObserver } from "./backward-pass.ts";
import type { GradientVector } from "./gradient-vector.ts";
import type { Execution } from "./shard-gradient.ts";
import type { TensorFlow } from "./tensorflow.ts";
import { drawMask, type MicroBatchKey } from "./training-mode.ts";

/** One call into TensorFlow for every operation; each gradient is written as soon as it exists. */
export class EagerGradient implements Execution {
  private readonly tf: TensorFlow;
  private readonly pass: BackwardPass;

  constructor(tf: TensorFlow, pass: BackwardPass) {
    this.tf = tf;
    this.pass = pass;
  }

  run(inputs: PassInputs, key: MicroBatchKey, into: GradientVector): { loss: number; correct: number } {
    const observer: PassObserver = {
      gradient: (index, gradient) => into.gradient(index, gradient.dataSync() as Float32Array),
      statistic: (index, value) => into.statistic(index, value.dataSync() as Float32Array),
      mask: (draw, shape) => drawMask(this.tf, key, draw, shape),
    };
    return this.pass.run(inputs, observer, (loss, correct) => ({
      loss: loss.dataSync()[0]!,
      correct: correct.dataSync()[0]!,
    }));
  }

  dispose(): void {}
}
