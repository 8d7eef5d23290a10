import type { GradConfig, Tensor, Tensor4D } from "@tensorflow/tfjs-core";
import { backendOf } from "./backend.ts";
import type { TensorFlow } from "./tensorflow.ts";

/**
 * Replaces gradients that TensorFlow.js composes of several passes by TensorFlow's own kernel: relu becomes ReluGrad.
 * Called once in each thread.
 */
export function useNativeGradients(tf: TensorFlow): void {
  tf.unregisterGradient("Relu");
  const config: GradConfig = {
    kernelName: "Relu",
    outputsToSave: [true],
    gradFunc: (dy, saved) => ({
      x: () => {
        const backend = backendOf(tf);
        const attributes = [{ name: "T", type: backend.binding.TF_ATTR_TYPE, value: backend.binding.TF_FLOAT }];
        return backend.executeSingleOutput("ReluGrad", attributes, [dy as Tensor, saved[0]!]);
      },
    }),
  };
  tf.registerGradient(config);
}

export interface BatchStatistics {
  /** [channels] */
  readonly mean: Tensor;
  /** [channels], unbiased (n - 1). */
  readonly variance: Tensor;
}

/**
 * Batch norm of a training batch by TensorFlow's fused kernels: y and the batch's statistics. x is [n, h, w, c].
 * `scale` and `offset` receive gradients; the statistics do not.
 */
export function fusedBatchNorm(
  tf: TensorFlow,
  x: Tensor4D,
  scale: Tensor,
  offset: Tensor,
  epsilon: number,
  onStatistics: (statistics: BatchStatistics) => void,
): Tensor {
  const backend = backendOf(tf);
  const { binding } = backend;
  const attributes = [
    { name: "T", type: binding.TF_ATTR_TYPE, value: binding.TF_FLOAT },
    { name: "U", type: binding.TF_ATTR_TYPE, value: binding.TF_FLOAT },
    { name: "epsilon", type: binding.TF_ATTR_FLOAT, value: epsilon },
    { name: "data_format", type: binding.TF_ATTR_STRING, value: "NHWC" },
    { name: "is_training", type: binding.TF_ATTR_BOOL, value: true },
  ];
  const operation = tf.customGrad((...inputs: unknown[]) => {
    const [input, gamma, beta, save] = inputs as [Tensor, Tensor, Tensor, (tensors: Tensor[]) => void];
    const none = tf.tensor1d([]);
    const outputs = backend.executeMultipleOutputs("FusedBatchNormV3", attributes, [input, gamma, beta, none, none], 6);
    const [y, mean, variance, saved1, saved2, saved3] = outputs as [Tensor, Tensor, Tensor, Tensor, Tensor, Tensor];
    onStatistics({ mean, variance });
    save([input, gamma, saved1, saved2, saved3]);
    const gradFunc = (dy: Tensor, saved: Tensor[]) => {
      const [a, g, s1, s2, s3] = saved as [Tensor, Tensor, Tensor, Tensor, Tensor];
      const grads = backend.executeMultipleOutputs("FusedBatchNormGradV3", attributes, [dy, a, g, s1, s2, s3], 5);
      return grads.slice(0, 3);
    };
    return { value: y, gradFunc };
  });
  return operation(x, scale, offset);
}
