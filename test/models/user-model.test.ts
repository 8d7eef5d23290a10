import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import type { LockstepError } from "../../shared/errors.ts";
import { buildModel } from "../../worker/compute/models/index.ts";
import { tensorflow } from "../compute/support.ts";

const tf = tensorflow();
const directory = mkdtempSync(join(tmpdir(), "lockstep-model-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

let files = 0;
function moduleOf(source: string): string {
  const path = join(directory, `model-${++files}.mjs`);
  writeFileSync(path, source);
  return path;
}

const build = (file: string | null, sourceSha256: string | null = null) =>
  buildModel(tf, { name: "file", options: {}, sourceSha256 }, [16, 16, 3], 4, file);

/** The error's code and text, or "built". */
async function outcome(file: string | null, sha256: string | null = null): Promise<string> {
  try {
    await build(file, sha256);
    return "built";
  } catch (error) {
    const { code, exitCode, hint, message } = error as LockstepError;
    expect(exitCode).toBe(2);
    expect(hint).toMatch(/\w/);
    return `${code}: ${message}`;
  }
}

/** A sequence of layers behind an input of `shape`, as a user would write it. */
const sequence = (layers: string, shape = "[height, width, channels]") => `
  export default (tf, [height, width, channels], classes) => {
    const input = tf.input({ shape: ${shape} });
    const { layers } = tf;
    const list = [${layers}];
    return tf.model({ inputs: input, outputs: list.reduce((x, layer) => layer.apply(x), input) });
  };`;
const END = "layers.flatten(), layers.dense({ units: classes, name: 'end' })";

test("a model of the user's own is built, also as a sequential model, an async function or a nested model", async () => {
  const conv = "layers.conv2d({ filters: 2, kernelSize: 3, activation: 'relu' })";
  const sources = [
    sequence(`${conv}, layers.batchNormalization(), layers.dropout({ rate: 0.2 }), ${END}`),
    sequence(`layers.globalAveragePooling2d({}), layers.dense({ units: classes })`, "[null, null, channels]"),
    `export default async (tf, inputShape, units) => tf.sequential({ layers: [
       tf.layers.flatten({ inputShape }), tf.layers.dense({ units })] });`,
    `export default (tf, inputShape, units) => tf.sequential({ layers: [
       tf.sequential({ layers: [tf.layers.flatten({ inputShape }), tf.layers.dense({ units: 7 })] }),
       tf.layers.dense({ units })] });`,
  ];
  for (const source of sources) expect(await outcome(moduleOf(source))).toBe("built");
});

test("the module's source is the one that the run was started with", async () => {
  const file = moduleOf(sequence(END));
  const sha256 = createHash("sha256").update(readFileSync(file)).digest("hex");
  expect(await outcome(file, sha256)).toBe("built");
  expect(await outcome(file, "0".repeat(64))).toContain("is not the file that this run was started with");
});

describe("what is wrong is named:", () => {
  test("the file", async () => {
    expect(await outcome(null)).toBe("LS_MODEL_FILE: The model file (none) does not exist.");
    expect(await outcome("/nowhere/model.js")).toBe("LS_MODEL_FILE: The model file /nowhere/model.js does not exist.");
    expect(await outcome(moduleOf("export default ("))).toMatch(/^LS_MODEL_FILE: .* does not load: /);
    const imports = "import 'a-package-that-is-not-there'; export default () => {};";
    expect(await outcome(moduleOf(imports))).toMatch(/does not load: .*a-package-that-is-not-there/);
    expect(await outcome(moduleOf("export const model = 1;"))).toContain("has no default export that is a function");
    expect(await outcome(moduleOf("export default 7;"))).toContain("has no default export that is a function");
    const throws = "export default () => { throw new Error('no such width'); };";
    expect(await outcome(moduleOf(throws))).toMatch(/The function of .* failed: no such width\.$/);
  });

  test("the model", async () => {
    const says = async (source: string) => (await outcome(moduleOf(source))).replace("LS_MODEL_FILE: ", "");
    for (const value of ["undefined", "{}", "tf.tensor1d([1])", "tf.layers.dense({ units: 4 })"]) {
      expect(await says(`export default (tf) => ${value};`)).toBe("The function did not return a tf.layers model.");
    }
    const units = sequence("layers.flatten(), layers.dense({ units: 9 })");
    expect(await says(units)).toBe("The model's output has the shape [any,9]; [batch, 4] is needed.");
    const rank = sequence("layers.dense({ units: classes })");
    expect(await says(rank)).toBe("The model's output has the shape [any,16,16,4]; [batch, 4] is needed.");
    const input = sequence(END, "[8, 8, channels]");
    expect(await says(input)).toBe("The model's input has the shape [8,8,3]; images are [16,16,3].");
    const two = `export default (tf, shape, units) => {
      const [a, b] = [tf.input({ shape }), tf.input({ shape })];
      const sum = tf.layers.flatten().apply(tf.layers.add().apply([a, b]));
      return tf.model({ inputs: [a, b], outputs: tf.layers.dense({ units }).apply(sum) });
    };`;
    expect(await says(two)).toBe("The model has 2 inputs and 1 outputs; one each is needed.");
    const softmax = "The model ends in softmax; the loss wants logits.";
    expect(await says(sequence("layers.flatten(), layers.dense({ units: 4, activation: 'softmax' })"))).toBe(softmax);
    expect(await says(sequence(`${END}, layers.softmax()`))).toBe(softmax);
    expect(await says(sequence(`${END}, layers.activation({ activation: 'softmax' })`))).toBe(softmax);
  });

  test.each([
    ["layers.gaussianNoise({ stddev: 1, name: 'n' })", "n (GaussianNoise) draws random numbers of its own."],
    ["layers.alphaDropout({ rate: 0.5, name: 'n' })", "n (AlphaDropout) draws random numbers of its own."],
    ["layers.dropout({ rate: 0.5, noiseShape: [null, 1, 1, 3], name: 'd' })", "d (Dropout) has a noiseShape."],
    ["layers.dropout({ rate: 1, name: 'd' })", "d (Dropout) drops everything."],
    ["layers.batchNormalization({ axis: 1, name: 'b' })", "b (BatchNormalization) normalises axis 1."],
    ["layers.dense({ units: 2, kernelRegularizer: 'l1l2', name: 'r' })", "r (Dense) has a kernelRegularizer."],
    ["layers.dense({ units: 2, kernelConstraint: 'nonNeg', name: 'c' })", "c (Dense) has a kernelConstraint."],
    ["layers.dense({ units: 2, trainable: false, name: 'f' })", "f (Dense) is frozen."],
    [
      "layers.timeDistributed({ layer: layers.dropout({ rate: 0.5 }), name: 't' })",
      "t (TimeDistributed) is not supported.",
    ],
  ])("the layer %s", async (layer, message) => {
    expect(await outcome(moduleOf(sequence(`${layer}, ${END}`)))).toBe(`LS_MODEL_LAYER: Layer ${message}`);
  });

  test("a batch norm used twice, and a recurrent layer", async () => {
    const twice = `export default (tf, shape, units) => {
      const input = tf.input({ shape });
      const norm = tf.layers.batchNormalization({ name: 'b' });
      const flat = tf.layers.flatten().apply(norm.apply(norm.apply(input)));
      return tf.model({ inputs: input, outputs: tf.layers.dense({ units }).apply(flat) });
    };`;
    expect(await outcome(moduleOf(twice))).toBe("LS_MODEL_LAYER: Layer b (BatchNormalization) is used twice.");
    const recurrent = "layers.reshape({ targetShape: [48, 16] }), layers.gru({ units: 3, name: 'g' })";
    const source = sequence(`${recurrent}, layers.dense({ units: classes })`);
    expect(await outcome(moduleOf(source))).toBe("LS_MODEL_LAYER: Layer g (GRU) is not supported.");
  });

  test("a name that is no model's, and options that do not fit", async () => {
    const of = (name: string, options: Record<string, number | number[]>) =>
      buildModel(tf, { name, options, sourceSha256: null }, [16, 16, 3], 4, null);
    await expect(of("vgg", {})).rejects.toMatchObject({ code: "LS_MODEL_UNKNOWN", exitCode: 2 });
    await expect(of("alexnet", { widths: [8, 16] })).rejects.toMatchObject({ code: "LS_MODEL_OPTIONS" });
    await expect(of("alexnet", { dropout: 1.5 })).rejects.toMatchObject({ code: "LS_MODEL_OPTIONS" });
    await expect(of("resnet", { blocks: [1, 1, 1, 1, 1] })).rejects.toMatchObject({ code: "LS_MODEL_OPTIONS" });
    await expect(of("resnet", { depth: 50 })).rejects.toMatchObject({ code: "LS_MODEL_OPTIONS" });
  });
});
