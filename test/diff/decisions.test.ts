import { describe, expect, it } from "vitest";
import { firstDifference } from "../../deploy/diff/compare.ts";
import { configDifferences } from "../../deploy/diff/config-differences.ts";
import type { Explanation, RunReplay } from "../../deploy/diff/explain.ts";
import type { RunHistory, StepFacts } from "../../deploy/diff/run-history.ts";
import { differingState, differingTensors, placeOf, tensorsInBlock } from "../../deploy/diff/tensors.ts";
import { verdictOf } from "../../deploy/diff/verdict.ts";

const digest = (digit: string) => digit.repeat(16);
const step = (changes: Partial<StepFacts> = {}): StepFacts => ({
  lineage: "",
  state: digest("5"),
  ids: digest("1") + digest("2"),
  gradients: digest("3") + digest("4"),
  samples: [6, 5],
  by: [["w", 2]],
  applied: true,
  ...changes,
});
const run = (...steps: StepFacts[]) => ({ steps }) as unknown as RunHistory;
const part = (changes: Partial<StepFacts>) => firstDifference(run(step(), step(), step()), run(step(), step(changes)));

describe("where two histories part", () => {
  it("names the first step, the first shard and what differs there", () => {
    expect(part({})).toBeNull();
    expect(part({ ids: digest("1") + digest("9") })).toEqual({ step: 1, kind: "samples", shard: 1, shards: [1] });
    expect(part({ samples: [6, 4] })).toEqual({ step: 1, kind: "samples", shard: 1, shards: [1] });
    expect(part({ gradients: digest("8") + digest("9") })).toEqual({
      step: 1,
      kind: "gradient",
      shard: 0,
      shards: [0, 1],
    });
    expect(part({ state: digest("9") })).toEqual({ step: 1, kind: "update", shard: null, shards: [] });
    expect(part({ applied: false })).toMatchObject({ kind: "update" });
    expect(part({ samples: [11], ids: digest("1"), gradients: digest("3") })).toMatchObject({ kind: "shards" });
  });

  it("takes no difference from a hash that was not recorded, or from who computed a shard", () => {
    expect(
      part({
        state: "",
        by: [
          ["v", 1],
          ["u", 1],
        ],
        lineage: "other",
      }),
    ).toBeNull();
  });
});

describe("the recipes' differences", () => {
  it("are named by their paths, a long list by its first entry that differs", () => {
    const rates = Array.from({ length: 20 }, (_, i) => i);
    const a = { seed: 1, optimizer: { kind: "sgd", momentum: 0.9 }, ema: null, rates, mean: [1, 2] };
    const b = {
      seed: 1,
      optimizer: { kind: "sgd", momentum: 0.8 },
      ema: { decay: 1 },
      rates: rates.with(3, 9).with(7, 9),
    };
    expect(configDifferences(a, b, "recipe")).toEqual([
      { path: "recipe.optimizer.momentum", a: "0.9", b: "0.8" },
      { path: "recipe.ema", a: "null", b: '{"decay":1}' },
      { path: "recipe.rates[3]", a: "3", b: "9 (2 entries differ)" },
      { path: "recipe.mean", a: "[1,2]", b: "absent" },
    ]);
    expect(configDifferences({ rates }, { rates: [...rates, 1] }, "recipe")).toEqual([
      { path: "recipe.rates", a: "20 entries", b: "21 entries, the common ones equal" },
    ]);
    expect(configDifferences(a, structuredClone(a), "recipe")).toEqual([]);
  });
});

describe("flat vectors", () => {
  const layout = {
    tensors: [
      { name: "kernel", shape: [2, 3, 4], offset: 0, size: 24 },
      { name: "beta", shape: [5], offset: 1020, size: 5 },
    ],
    sections: [
      { name: "weights", floats: 2048 },
      { name: "momentum", floats: 1024 },
    ],
    blocks: 2,
  };

  it("are compared by bits, tensor by tensor", () => {
    const a = new Float32Array(3072);
    const b = a.slice();
    b[23] = 0.5;
    b[30] = 7; // Padding.
    b[1022] = -0;
    b[2048] = Number.NaN;
    expect(differingTensors(a.subarray(0, 2048), b.subarray(0, 2048), layout)).toEqual([
      { name: "kernel", size: 24, differing: 1, largest: 0.5 },
      { name: "beta", size: 5, differing: 1, largest: 0 },
    ]);
    expect(differingState(a, b, layout).map(({ name }) => name)).toEqual(["kernel", "beta", "kernel (momentum)"]);
    expect(differingState(a, b, layout)[2]!.largest).toBeNull();
  });

  it("tell to which tensor a value and a block belong", () => {
    expect(placeOf(17, layout)).toEqual({ name: "kernel", index: [1, 1, 1] });
    expect(placeOf(1024, layout)).toEqual({ name: "beta", index: [4] });
    expect(placeOf(24, layout)).toBeNull();
    expect(tensorsInBlock(0, layout)).toEqual(["kernel", "beta"]);
    expect(tensorsInBlock(1, layout)).toEqual(["beta"]);
  });
});

describe("the verdict", () => {
  const sound: RunReplay = {
    from: 0,
    sameFingerprint: true,
    departed: null,
    samplesAsRecorded: true,
    asRecorded: true,
    located: null,
  };
  const nothing: Explanation = {
    a: sound,
    b: sound,
    failures: [],
    images: [],
    before: [],
    layers: [],
    checkpoint: null,
  };
  const first = { step: 3, kind: "gradient", shard: 1, shards: [1] } as const;
  const tensor = (name: string) => ({ name, size: 1, differing: 1, largest: 1 });
  const workers = { a: "worker-0", b: "worker-1" };
  const judge = (changes: Partial<Explanation>, kind: "gradient" | "update" | "samples" = "gradient") =>
    verdictOf({ ...first, kind }, { ...nothing, ...changes }, workers);

  it.each([
    [
      { images: [4], before: [tensor("x")], layers: [tensor("conv1")] },
      { cause: "images", run: null, layer: "conv1" },
    ],
    [
      { before: [tensor("x")], layers: [tensor("conv1")] },
      { cause: "state", run: null, layer: "conv1" },
    ],
    [{ layers: [tensor("conv2")] }, { cause: "config", run: null, layer: "conv2" }],
    [{ b: { ...sound, asRecorded: false } }, { cause: "damage", run: "b", layer: null }],
    [
      { a: { ...sound, asRecorded: false, located: { tensors: ["x", "y"], flip: null } } },
      { cause: "damage", run: "a", layer: "x" },
    ],
    [{ a: { ...sound, asRecorded: false, samplesAsRecorded: false } }, { cause: "samples", run: "a", layer: null }],
    [{ b: { ...sound, asRecorded: false, sameFingerprint: false } }, { cause: "machine", run: null }],
    [{ a: { ...sound, asRecorded: false }, b: { ...sound, asRecorded: false } }, { cause: "unknown" }],
    [{ b: null, failures: ["gone"] }, { cause: "unknown" }],
  ] as const)("of %j is %j", (changes, expected) => {
    expect(judge(changes)).toMatchObject(expected);
  });

  it("of an update that is not what the gradients give names the run", () => {
    expect(judge({ b: { ...sound, asRecorded: false } }, "update")).toMatchObject({ cause: "damage", run: "b" });
  });
});
