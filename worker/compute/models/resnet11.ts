import type { LayersModel, SymbolicTensor } from "@tensorflow/tfjs-layers";
import { z } from "zod";
import type { TensorFlow } from "../tensorflow.ts";

export const resnet11Options = z.strictObject({
  /** Channels of the stem and of the three stages. */
  widths: z.array(z.number().int().positive()).length(4).optional(),
  /** Part of the pooled features that is dropped before the dense layer. */
  dropout: z.number().min(0).lt(1).optional(),
});

/**
 * A shallow, wide residual network that learns fast, after Page's ResNet-9 (How to train your ResNet, 2018): a 3x3 stem of
 * stride 2, then three stages of one 3x3 convolution, max pooling and a residual pair of 3x3 convolutions, global average
 * pooling, one dense layer. Eleven weighted layers. Ends in logits.
 *
 * A stage pools before it normalises, which leaves a quarter of the values to normalise.
 */
export function resnet11(
  tf: TensorFlow,
  [height, width, channels]: readonly [number, number, number],
  classes: number,
  { widths = [48, 96, 192, 384], dropout = 0.1 }: z.infer<typeof resnet11Options> = {},
): LayersModel {
  const input = tf.input({ shape: [null, null, channels] as unknown as number[], name: "images" });
  const convolve = (x: SymbolicTensor, name: string, filters: number, strides = 1) =>
    tf.layers
      .conv2d({ filters, kernelSize: 3, strides, padding: "same", useBias: false, kernelInitializer: "heNormal", name })
      .apply(x) as SymbolicTensor;
  const normalise = (x: SymbolicTensor, name: string) => {
    const normal = tf.layers.batchNormalization({ epsilon: 1e-5, name: `${name}_norm` }).apply(x);
    return tf.layers.activation({ activation: "relu", name: `${name}_relu` }).apply(normal) as SymbolicTensor;
  };
  const pool = (x: SymbolicTensor, name: string) =>
    tf.layers.maxPooling2d({ poolSize: 2, strides: 2, padding: "same", name }).apply(x) as SymbolicTensor;

  // Small images lose less resolution on the way.
  const small = Math.min(height, width) < 48;
  let x = normalise(convolve(input, "stem", widths[0]!, small ? 1 : 2), "stem");
  for (const [i, filters] of widths.slice(1).entries()) {
    const name = `stage${i + 1}`;
    x = normalise(pool(convolve(x, `${name}_conv`, filters), `${name}_pool`), `${name}_conv`);
    let y = normalise(convolve(x, `${name}_pair1`, filters), `${name}_pair1`);
    y = normalise(convolve(y, `${name}_pair2`, filters), `${name}_pair2`);
    x = tf.layers.add({ name: `${name}_add` }).apply([x, y]) as SymbolicTensor;
  }
  x = tf.layers.globalAveragePooling2d({ name: "pooled" } as never).apply(x) as SymbolicTensor;
  if (dropout > 0) x = tf.layers.dropout({ rate: dropout, name: "dropout" }).apply(x) as SymbolicTensor;
  x = tf.layers
    .dense({ units: classes, kernelInitializer: "glorotUniform", name: "logits" })
    .apply(x) as SymbolicTensor;
  return tf.model({ inputs: input, outputs: x, name: "resnet11" });
}
