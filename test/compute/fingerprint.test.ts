import { describe, expect, test } from "vitest";
import { layoutOf } from "../../shared/model/layout.ts";
import { loadArithmeticSync } from "../../worker/arithmetic/arithmetic.ts";
import { fingerprint } from "../../worker/compute/fingerprint.ts";
import { initialWeights, tensorsOf } from "../../worker/compute/model-tensors.ts";
import { resnet } from "../../worker/compute/models/resnet.ts";
import { ShardGradient } from "../../worker/compute/shard-gradient.ts";
import { sharesMemory } from "../../worker/compute/tensorflow.ts";
import { slotLayout } from "../../worker/loader/slot.ts";
import { createMemory, planMemory } from "../../worker/memory/plan.ts";
import { SHAPE, smallRecipe } from "../loader/support.ts";
import { tensorflow } from "./support.ts";

const tf = tensorflow();

/** A worker's memory and gradient as its compute thread sets them up, with initial weights. */
function worker({ seed = 5, sides = [8, 12] } = {}) {
  const recipe = smallRecipe({ seed, resolutions: sides.map((side, fromEpoch) => ({ fromEpoch, side })) });
  const model = resnet(tf, [96, 96, 3], recipe.data.classes, { blocks: [1, 1], widths: [4, 8] });
  const tensors = tensorsOf(model);
  const specs = tensors.map(({ spec }) => spec);
  const layout = layoutOf(specs, recipe.bucketBytes);
  const loaderBytes = slotLayout(recipe).bytes;
  const sizes = { shards: 4, optimizer: "sgd", ema: false, loaderSlots: 1, loaderBytes, receiveBytes: 65536 } as const;
  const plan = planMemory({ layout, ...sizes });
  const memory = createMemory(plan);
  const arithmetic = loadArithmeticSync(memory);
  const { weights } = plan.state;
  const shared = sharesMemory(tf, memory, plan.loader[0]!.address);
  const gradient = new ShardGradient(tf, model, { layout, memory, weights, recipe, shared });
  const vector = new Float32Array(memory.buffer, weights, layout.stateFloats);
  initialWeights(tensors, layout, seed, vector);
  const print = () =>
    fingerprint({
      ...{ arithmetic, gradient, layout, recipe, shape: SHAPE, sizes: [4, 5] },
      ...{ slot: plan.loader[0]!.address, buffer: plan.nodes[0]! },
    });
  const gradientOf = (name: string) => {
    const { offset, size } = layout.trainable.find((slot) => slot.name === name)!;
    return new Float32Array(memory.buffer, plan.nodes[0]!.address + offset * 4, size);
  };
  return { print, vector, gradientOf };
}

describe("a fingerprint", () => {
  test("has one hash for each shape in the plan, all different, and the same ones again", () => {
    const { print } = worker();
    const first = print();
    expect(first.length).toBe(4);
    expect(new Set(first).size).toBe(4);
    for (const hash of first) expect(hash).toMatch(/^[0-9a-f]{16}$/);
    expect(print()).toEqual(first);
    expect(worker().print()).toEqual(first);
    expect(worker({ sides: [12] }).print()).toEqual(first.slice(2));
    expect(worker({ seed: 6 }).print()).not.toEqual(first);
  });

  test("leaves the weights as they were, and reaches gradients behind scales that start at zero", () => {
    const { print, vector, gradientOf } = worker();
    const before = vector.slice();
    print();
    expect(vector.slice()).toEqual(before);
    expect(gradientOf("stack1_block1_conv1/kernel").every((value) => value !== 0)).toBe(true);
  });

  test("tells one bit of one weight", () => {
    const { print, vector } = worker();
    const first = print();
    new Uint32Array(vector.buffer, vector.byteOffset, 1)[0]! ^= 1;
    const changed = print();
    for (const [i, hash] of changed.entries()) expect(hash).not.toBe(first[i]);
  });
});
