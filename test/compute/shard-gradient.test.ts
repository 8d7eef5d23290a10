import { readdirSync } from "node:fs";
import { tmpdir } from "node:os";
import type { Tensor } from "@tensorflow/tfjs-core";
import type { LayersModel, SymbolicTensor } from "@tensorflow/tfjs-layers";
import { describe, expect, test } from "vitest";
import { TAIL } from "../../shared/model/layout.ts";
import { alexnet } from "../../worker/compute/models/alexnet.ts";
import { resnet } from "../../worker/compute/models/resnet.ts";
import { Bench, type BenchOptions, fillNormal, fillWeights, tensorflow } from "./support.ts";

const tf = tensorflow();
const leftovers = () => readdirSync(tmpdir()).filter((name) => name.startsWith("lockstep-graph-")).length;
const small = { widths: [3, 5, 6], dropout: 0.3 };

function benchOf(options: BenchOptions = {}, model: LayersModel = alexnet(tf, [16, 16, 3], 4, small)): Bench {
  const bench = new Bench(tf, model, options);
  fillWeights(bench);
  return bench;
}

/** A model without batch norm and dropout, whose convolution has a bias and whose layer is used twice. */
function plainModel(): LayersModel {
  const input = tf.input({ shape: [16, 16, 3] });
  const shared = tf.layers.conv2d({ filters: 3, kernelSize: 3, padding: "same", activation: "tanh", name: "twice" });
  const once = shared.apply(shared.apply(input)) as SymbolicTensor;
  const flat = tf.layers.flatten().apply(once) as SymbolicTensor;
  const output = tf.layers.dense({ units: 4, name: "logits" }).apply(flat) as SymbolicTensor;
  return tf.model({ inputs: input, outputs: output });
}

describe.each(["eager", "graph"] as const)("%s", (execution) => {
  test("tensors and bytes stay constant over micro-batches of both sizes", () => {
    const bench = benchOf({ execution });
    const usage = () => {
      const { numTensors, numBytes } = tf.memory();
      return { numTensors, numBytes };
    };
    for (const samples of [6, 5]) bench.run(undefined, { samples });
    const before = usage();
    for (let i = 0; i < 10; i++) bench.run(undefined, { samples: 5 + (i % 2), step: i });
    expect(usage()).toEqual(before);
  });

  test("everything is given back when the gradient is disposed of", () => {
    const { numTensors } = tf.memory();
    for (const model of [
      alexnet(tf, [16, 16, 3], 4, small),
      resnet(tf, [96, 96, 3], 4, { blocks: [1, 1], widths: [4, 5] }),
    ]) {
      const bench = benchOf({ execution }, model);
      bench.run();
      bench.gradient.dispose();
    }
    expect(tf.memory().numTensors).toBe(numTensors);
  });

  test("a failing pass leaves no tensor behind, and the next one works", () => {
    const bench = benchOf({ execution });
    const { loss } = bench.run();
    const { numTensors } = tf.memory();
    const explode = () => {
      throw new Error("stop here");
    };
    expect(() => bench.run(explode)).toThrow("stop here");
    expect(tf.memory().numTensors).toBe(numTensors);
    expect(bench.run().loss).toBe(loss);
  });

  test("every tensor is announced once, when its gradient stands in the vector, last layers first", () => {
    const bench = benchOf({ execution });
    const { trainable } = bench.layout;
    const order: string[] = [];
    bench.run((index) => {
      const { name, offset, size } = trainable[index]!;
      expect(
        bench.vector.subarray(offset, offset + size).some((v) => v !== 0),
        name,
      ).toBe(true);
      order.push(name.split("/")[0]!);
    });
    expect(order.length).toBe(trainable.length);
    const layers = ["logits", "conv3_norm", "conv3", "conv2_norm", "conv2", "conv1_norm", "conv1"];
    expect([...new Set(order)]).toEqual(layers);
  });

  test("padding stays zero and the tail holds loss, correct and samples", () => {
    const bench = benchOf({ execution });
    const { loss, correct } = bench.run();
    const used = new Uint8Array(bench.layout.stateFloats);
    for (const { offset, size } of [...bench.layout.trainable, ...bench.layout.statistics])
      used.fill(1, offset, offset + size);
    expect(used.some((mark, i) => mark === 0 && bench.vector[i] !== 0)).toBe(false);
    const tail = [...bench.vector.subarray(bench.layout.stateFloats)];
    expect(tail.slice(0, 3)).toEqual([loss, correct, 6]);
    expect([TAIL.loss, TAIL.correct, TAIL.samples]).toEqual([0, 1, 2]);
    expect(tail.slice(3).every((v) => v === 0)).toBe(true);
  });

  test("an update of the weights in place is seen at once, also where memory is not shared", () => {
    const vectors = [true, false].map((shared) => {
      const bench = benchOf({ shared, execution });
      const first = bench.run().loss;
      fillNormal(bench.weights.subarray(0, bench.layout.trainable[0]!.size), 5);
      expect(bench.run().loss).not.toBe(first);
      return bench.vector.slice();
    });
    expect(vectors[1]).toEqual(vectors[0]);
  });

  test("dropout depends on step and shard and on nothing else", () => {
    const bench = benchOf({ execution });
    const losses = [
      { step: 11, shard: 2 },
      { step: 12, shard: 2 },
      { step: 11, shard: 3 },
      { step: 11, shard: 2 },
    ].map((key) => bench.run(undefined, key).loss);
    expect(new Set(losses).size).toBe(3);
    expect(losses[3]).toBe(losses[0]);
  });

  test("a model without batch norm and dropout works; a layer that is used twice gets one summed gradient", () => {
    const bench = benchOf({ samples: 3, execution }, plainModel());
    expect(bench.layout.statisticsFloats).toBe(0);
    const order: number[] = [];
    bench.run((index) => order.push(index));
    expect(order.toSorted()).toEqual([0, 1, 2, 3]);
    const { offset } = bench.layout.trainable.find(({ name }) => name === "twice/kernel")!;
    const gradient = bench.vector[offset]!;
    const lossAt = (shift: number) => {
      const kept = bench.weights[offset]!;
      bench.weights[offset] = kept + shift;
      const { loss } = bench.run();
      bench.weights[offset] = kept;
      return loss;
    };
    expect((lossAt(0.01) - lossAt(-0.01)) / 0.02 / gradient).toBeCloseTo(1, 2);
  });

  test("a weight that the loss does not depend on has the gradient zero and is announced", () => {
    const input = tf.input({ shape: [16, 16, 3] });
    const flat = tf.layers.globalAveragePooling2d({} as never).apply(input) as SymbolicTensor;
    const dead = tf.layers.dense({ units: 4, useBias: false, name: "dead" }).apply(flat) as SymbolicTensor;
    const cut = tf.layers.activation({ activation: "relu" }).apply(dead) as SymbolicTensor;
    const output = tf.layers.dense({ units: 4, name: "logits" }).apply(cut) as SymbolicTensor;
    const bench = benchOf({ execution }, tf.model({ inputs: input, outputs: output }));
    const { offset, size } = bench.layout.trainable[0]!;
    bench.weights.fill(0, offset, offset + size);
    const order: number[] = [];
    bench.run((index) => order.push(index));
    expect(order.toSorted()).toEqual([0, 1, 2]);
    expect(bench.vector.subarray(offset, offset + size).every((v) => v === 0)).toBe(true);
  });
});

test("a model of one fixed size refuses a recipe with others", () => {
  expect(() => benchOf({ side: 12 }, plainModel())).toThrow(
    expect.objectContaining({ code: "LS_MODEL_SIDE", message: expect.stringContaining("[16,16,3]") }),
  );
});

test("a worker that cannot follow the run's precision is refused", () => {
  expect(() => benchOf({ precision: "bf16" })).toThrow(expect.objectContaining({ code: "LS_CAPABILITY", exitCode: 3 }));
});

test("graph and eager agree to rounding, for every tensor and both sizes", () => {
  const [eager, graph] = (["eager", "graph"] as const).map((execution) => benchOf({ execution }));
  for (const samples of [6, 5]) {
    const [a, b] = [eager!, graph!].map((bench) => bench.run(undefined, { samples }));
    expect(b!.loss / a!.loss).toBeCloseTo(1, 6);
    expect(b!.correct).toBe(a!.correct);
    const expected = eager!.tensors(eager!.vector);
    for (const [i, { name, data }] of graph!.tensors(graph!.vector).entries()) {
      const most = expected[i]!.data.reduce((size, v) => Math.max(size, Math.abs(v)), 1e-6);
      const apart = data.reduce((worst, v, j) => Math.max(worst, Math.abs(v - expected[i]!.data[j]!)), 0);
      expect(apart / most, name).toBeLessThan(1e-5);
    }
  }
});

test("sessions are closed with the gradient, and the SavedModel does not stay on the disk", () => {
  const { binding } = tf.backend() as unknown as { binding: { getNumOfSavedModels(): number } };
  const before = { sessions: binding.getNumOfSavedModels(), files: leftovers() };
  const bench = benchOf({ execution: "graph" });
  for (const samples of [6, 5, 6]) bench.run(undefined, { samples });
  expect(binding.getNumOfSavedModels()).toBe(before.sessions + 2);
  bench.gradient.dispose();
  expect({ sessions: binding.getNumOfSavedModels(), files: leftovers() }).toEqual(before);
});

/** A layer that decides by the values that pass through it, or by chance. */
class Wayward extends tf.layers.Layer {
  static className = "Wayward";
  readonly way: "looks" | "draws";
  constructor(way: "looks" | "draws") {
    super({ name: way });
    this.way = way;
  }
  override call(inputs: Tensor | Tensor[]): Tensor {
    const x = Array.isArray(inputs) ? inputs[0]! : inputs;
    return this.way === "looks" ? x.mul(x.dataSync()[0]! > 0 ? 1 : 2) : x.add(tf.randomNormal(x.shape));
  }
  override computeOutputShape(shape: never): never {
    return shape;
  }
}

test.each([
  ["looks", "looks at values"],
  ["draws", "draws random numbers"],
] as const)("a model that %s in JavaScript is refused as a graph, and works eagerly", (way, message) => {
  const model = () => {
    const input = tf.input({ shape: [16, 16, 3] });
    const odd = new Wayward(way).apply(tf.layers.flatten().apply(input)) as SymbolicTensor;
    const output = tf.layers.dense({ units: 4, name: "logits" }).apply(odd) as SymbolicTensor;
    return tf.model({ inputs: input, outputs: output });
  };
  expect(benchOf({}, model()).run().loss).toBeGreaterThan(0);
  const bench = benchOf({ execution: "graph" }, model());
  const refused = () => {
    expect(() => bench.run()).toThrow(
      expect.objectContaining({
        code: "LS_GRAPH",
        message: expect.stringContaining(message),
        hint: expect.stringContaining("eager"),
      }),
    );
    return tf.memory().numTensors;
  };
  expect(refused()).toBe(refused());
  expect(Math.random()).toBeLessThan(1);
});
