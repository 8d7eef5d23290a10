/** A network of 80,000 weights: what takes time in these runs is what is injected. */
export default (tf, shape, classes) => {
  const block = (filters, first) => [
    tf.layers.conv2d({ ...first, filters, kernelSize: 3, strides: 2, padding: "same", useBias: false }),
    tf.layers.batchNormalization(),
    tf.layers.activation({ activation: "relu" }),
  ];
  return tf.sequential({
    layers: [
      ...block(16, { inputShape: shape }),
      ...block(64, {}),
      ...block(112, {}),
      tf.layers.globalAveragePooling2d({}),
      tf.layers.dropout({ rate: 0.1 }),
      tf.layers.dense({ units: classes }),
    ],
  });
};
