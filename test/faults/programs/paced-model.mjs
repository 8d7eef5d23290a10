import { existsSync } from "node:fs";

/**
 * A network of 80,000 weights. While the file PACE exists its micro-batches take their time without using a processor:
 * faults take seconds, and a run must have steps left for them. The pace does not touch the bits.
 */
const MILLIS = 60;
const never = new Int32Array(new SharedArrayBuffer(4));
const file = process.env.PACE ?? "";

export default (tf, shape, classes) => {
  class Pace extends tf.layers.Layer {
    static className = "Pace";
    call(inputs) {
      if (file !== "" && existsSync(file)) Atomics.wait(never, 0, 0, MILLIS);
      return (Array.isArray(inputs) ? inputs[0] : inputs).clone();
    }
  }
  const block = (filters, first) => [
    tf.layers.conv2d({ ...first, filters, kernelSize: 3, strides: 2, padding: "same", useBias: false }),
    tf.layers.batchNormalization(),
    tf.layers.activation({ activation: "relu" }),
  ];
  return tf.sequential({
    layers: [
      ...block(16, { inputShape: shape }),
      new Pace({}),
      ...block(64, {}),
      ...block(112, {}),
      tf.layers.globalAveragePooling2d({}),
      tf.layers.dropout({ rate: 0.1 }),
      tf.layers.dense({ units: classes }),
    ],
  });
};
