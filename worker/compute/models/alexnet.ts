import type { LayersModel, SymbolicTensor } from "@tensorflow/tfjs-layers";
import { z } from "zod";
import type { TensorFlow } from "../tensorflow.ts";

export const alexnetOptions = z.strictObject({
  /** Channels of the three convolutions. */
  widths: z.array(z.number().int().positive()).length(3).optional(),
  /** Part of the pooled features that is dropped before the dense layer. */
  dropout: z.number().min(0).lt(1).optional(),
});

/**
 * AlexNet-like: three convolutions, global average pooling, one dense layer, so that class activation maps are exact
 * (Zhou et al. 2016). Batch norm and relu after each convolution. Ends in logits.
 */
export function alexnet(
  tf: TensorFlow,
  [height, width, channels]: readonly [number, number, number],
  classes: number,
  { widths = [64, 160, 256], dropout = 0.1 }: z.infer<typeof alexnetOptions> = {},
): LayersModel {
  const input = tf.input({ shape: [null, null, channels] as unknown as number[], name: "images" });
  const unit = (x: SymbolicTensor, index: number, kernelSize: number, strides: number) => {
    const name = `conv${index}`;
    const convolution = tf.layers.conv2d({
      filters: widths[index - 1]!,
      kernelSize,
      strides,
      padding: "same",
      useBias: false,
      kernelInitializer: "heNormal",
      name,
    });
    const normal = tf.layers.batchNormalization({ epsilon: 1e-5, name: `${name}_norm` });
    const relu = tf.layers.activation({ activation: "relu", name: `${name}_relu` });
    return relu.apply(normal.apply(convolution.apply(x))) as SymbolicTensor;
  };
  const pool = (x: SymbolicTensor, index: number) =>
    tf.layers
      .maxPooling2d({ poolSize: 2, strides: 2, padding: "same", name: `pool${index}` })
      .apply(x) as SymbolicTensor;

  // Small images lose less resolution on the way.
  const small = Math.min(height, width) < 48;
  let x = unit(input, 1, 5, small ? 1 : 2);
  x = pool(x, 1);
  x = unit(x, 2, 3, 1);
  x = pool(x, 2);
  // A wide kernel on the small maps sees half of the image.
  x = unit(x, 3, 5, 1);
  x = tf.layers.globalAveragePooling2d({ name: "pooled" } as never).apply(x) as SymbolicTensor;
  if (dropout > 0) x = tf.layers.dropout({ rate: dropout, name: "dropout" }).apply(x) as SymbolicTensor;
  x = tf.layers
    .dense({ units: classes, kernelInitializer: "glorotUniform", name: "logits" })
    .apply(x) as SymbolicTensor;
  return tf.model({ inputs: input, outputs: x, name: "alexnet" });
}
