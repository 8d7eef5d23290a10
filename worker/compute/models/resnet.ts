import type { LayersModel, SymbolicTensor } from "@tensorflow/tfjs-layers";
import { z } from "zod";
import type { TensorFlow } from "../tensorflow.ts";

const counts = z.array(z.number().int().positive()).min(1).max(8);

export const resnetOptions = z
  .strictObject({
    /** Blocks of each stack. */
    blocks: counts.optional(),
    /** Channels of each stack; as many as there are stacks. */
    widths: counts.optional(),
    stemStride: z.number().int().min(1).max(2).optional(),
    /** Part of the pooled features that is dropped before the dense layer. */
    dropout: z.number().min(0).lt(1).optional(),
  })
  .refine(({ blocks = BLOCKS, widths = WIDTHS }) => blocks.length === widths.length, {
    message: "blocks and widths must name the same number of stacks",
  });

/** 11 blocks: with stem and dense layer 24 weighted layers. */
const BLOCKS = [2, 3, 4, 2];
const WIDTHS = [32, 64, 128, 256];

/**
 * ResNet-like, after ResNet-34 (He et al. 2016): a 3x3 stem, stacks of residual blocks of two 3x3 convolutions each,
 * global average pooling, one dense layer. With 11 blocks it has 24 weighted layers, counted as the paper counts: stem,
 * 22 convolutions in blocks, dense layer; projections of shortcuts are not counted. Ends in logits.
 *
 * A shortcut that changes shape averages over the stride first and projects with a 1x1 convolution of stride 1 (He et
 * al. 2019, ResNet-D). The last normalisation of a block starts at zero, so that a block starts as the identity.
 */
export function resnet(
  tf: TensorFlow,
  [height, width, channels]: readonly [number, number, number],
  classes: number,
  {
    blocks = BLOCKS,
    widths = WIDTHS,
    stemStride = Math.min(height, width) < 48 ? 1 : 2,
    dropout = 0,
  }: z.infer<typeof resnetOptions> = {},
): LayersModel {
  const input = tf.input({ shape: [null, null, channels] as unknown as number[], name: "images" });
  const convolve = (x: SymbolicTensor, name: string, filters: number, kernelSize: number, strides: number) =>
    tf.layers
      .conv2d({ filters, kernelSize, strides, padding: "same", useBias: false, kernelInitializer: "heNormal", name })
      .apply(x) as SymbolicTensor;
  const normalise = (x: SymbolicTensor, name: string, gammaInitializer: "ones" | "zeros" = "ones") =>
    tf.layers.batchNormalization({ epsilon: 1e-5, gammaInitializer, name }).apply(x) as SymbolicTensor;
  const relu = (x: SymbolicTensor, name: string) =>
    tf.layers.activation({ activation: "relu", name }).apply(x) as SymbolicTensor;

  let x = relu(normalise(convolve(input, "stem", widths[0]!, 3, stemStride), "stem_norm"), "stem_relu");
  let from = widths[0]!;
  blocks.forEach((count, stack) => {
    for (let block = 0; block < count; block++) {
      const name = `stack${stack + 1}_block${block + 1}`;
      const filters = widths[stack]!;
      const strides = stack > 0 && block === 0 ? 2 : 1;
      let shortcut = x;
      if (strides > 1) {
        const pool = tf.layers.averagePooling2d({ poolSize: 2, strides: 2, padding: "same", name: `${name}_pool` });
        shortcut = pool.apply(shortcut) as SymbolicTensor;
      }
      if (filters !== from) {
        shortcut = normalise(convolve(shortcut, `${name}_project`, filters, 1, 1), `${name}_project_norm`);
      }
      let y = relu(normalise(convolve(x, `${name}_conv1`, filters, 3, strides), `${name}_norm1`), `${name}_relu1`);
      y = normalise(convolve(y, `${name}_conv2`, filters, 3, 1), `${name}_norm2`, "zeros");
      const sum = tf.layers.add({ name: `${name}_add` }).apply([y, shortcut]) as SymbolicTensor;
      x = relu(sum, `${name}_relu2`);
      from = filters;
    }
  });
  x = tf.layers.globalAveragePooling2d({ name: "pooled" } as never).apply(x) as SymbolicTensor;
  if (dropout > 0) x = tf.layers.dropout({ rate: dropout, name: "dropout" }).apply(x) as SymbolicTensor;
  x = tf.layers
    .dense({ units: classes, kernelInitializer: "glorotUniform", name: "logits" })
    .apply(x) as SymbolicTensor;
  return tf.model({ inputs: input, outputs: x, name: "resnet" });
}
