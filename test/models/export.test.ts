import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { LayersModel } from "@tensorflow/tfjs-layers";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type ExportedModel, exportModel } from "../../worker/compute/export.ts";
import { alexnet } from "../../worker/compute/models/alexnet.ts";
import { resnet } from "../../worker/compute/models/resnet.ts";
import { Predictor } from "../../worker/compute/predictor.ts";
import { Bench, fillWeights, tensorflow } from "../compute/support.ts";
import { alexnetForward, type Forward, type Pass, resnetForward, weightsOf } from "./reference/networks.ts";
import { Tape, value } from "./reference/tape.ts";

const tf = tensorflow();
const SHAPE = [5, 16, 16, 3] as const;
const facts = {
  classNames: ["cat", "dog", "owl", "ant"],
  inputShape: [16, 16, 3] as const,
  mean: [0.4, 0.5, 0.6],
  deviation: [0.2, 0.3, 0.25],
  metadata: { run: "r1" },
};

interface Case {
  readonly make: () => LayersModel;
  readonly forward: (tape: Tape, pass: Pass) => Forward;
}

const cases: Record<string, Case> = {
  alexnet: {
    make: () => alexnet(tf, [16, 16, 3], 4, { widths: [3, 5, 6], dropout: 0.3 }),
    forward: (tape, pass) => alexnetForward(tape, pass, 1),
  },
  resnet: {
    make: () => resnet(tf, [96, 96, 3], 4, { blocks: [1, 2, 1], widths: [4, 6, 8] }),
    forward: (tape, pass) => resnetForward(tape, pass, [1, 2, 1], 2),
  },
};

/** The file format read by hand: eight bytes of length, JSON, data. */
function readByHand(file: string) {
  const bytes = readFileSync(file);
  const start = 8 + Number(bytes.readBigUInt64LE(0));
  const { __metadata__: metadata, ...header } = JSON.parse(bytes.toString("utf8", 8, start)) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  const tensors = Object.entries(header).map(
    ([
      name,
      {
        shape,
        data_offsets: [from, to],
      },
    ]) => {
      const data = Array.from({ length: (to - from) / 4 }, (_, i) => bytes.readFloatLE(start + from + i * 4));
      return { name, shape, data };
    },
  );
  return { metadata: metadata as unknown as Record<string, string>, tensors, data: bytes.subarray(start), bytes };
}

const closeTo = (found: ArrayLike<number>, expected: ArrayLike<number>) => {
  expect(found.length).toBe(expected.length);
  const scale = Math.max(...Array.from(expected, Math.abs));
  Array.from(expected).forEach((v, i) => {
    expect(Math.abs(found[i]! - v) / scale).toBeLessThan(1e-5);
  });
};

/** Logits of plain TensorFlow.js in a process of its own. */
function plain(directory: string, bench: Bench): number[] {
  const script = fileURLToPath(new URL("./plain-tfjs.mjs", import.meta.url));
  const input = JSON.stringify({ directory, shape: SHAPE, images: [...bench.images] });
  const answer = JSON.parse(execFileSync(process.execPath, [script], { input, encoding: "utf8" }));
  expect(answer.backend).toBe("cpu");
  return answer.logits as number[];
}

describe.each(Object.keys(cases))("the exported %s", (name) => {
  const { make, forward } = cases[name]!;
  const directory = mkdtempSync(join(tmpdir(), "lockstep-export-"));
  let bench: Bench;
  let exported: ExportedModel;
  let logits: Float32Array;

  beforeAll(async () => {
    const model = make();
    bench = new Bench(tf, model, { samples: 5 });
    fillWeights(bench);
    exported = await exportModel(model, bench.layout, bench.weights, directory, { model: name, ...facts });
    logits = new Predictor(tf, model, bench.layout, bench.weights).run(bench.images.slice(), SHAPE, false).logits;
  });
  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  test("model.safetensors gives the same logits in a float64 implementation that shares no code", () => {
    const weights = weightsOf(readByHand(join(directory, "model.safetensors")).tensors);
    const pass = { weights, images: value(SHAPE, bench.images), training: false, mask: null };
    closeTo(logits, forward(new Tape(), pass).logits.data);
  });

  test("model.json gives the same logits in plain TensorFlow.js, in a process of its own", () => {
    closeTo(plain(directory, bench), logits);
  });

  test("weightsSha256 is the hash of the tensors' bytes in the file, trainable first, then statistics", () => {
    const { data, tensors, bytes, metadata } = readByHand(join(directory, "model.safetensors"));
    expect(createHash("sha256").update(data).digest("hex")).toBe(exported.weightsSha256);
    expect(createHash("sha256").update(bytes).digest("hex")).toBe(exported.modelSha256);
    expect(exported.modelBytes).toBe(bytes.length);
    const firstStatistic = tensors.findIndex((tensor) => tensor.name.includes("/moving_"));
    expect(tensors.slice(firstStatistic).every((tensor) => tensor.name.includes("/moving_"))).toBe(true);
    const trainable = tensors.slice(0, firstStatistic).reduce((sum, tensor) => sum + tensor.data.length, 0);
    expect(exported.parameters).toBe(trainable);
    expect(metadata).toMatchObject({ model: name, run: "r1", weightsSha256: exported.weightsSha256 });
    expect(JSON.parse(metadata.classes!)).toEqual(facts.classNames);
  });

  test("the directory holds exactly the files named, and its README names every tensor", () => {
    expect(readdirSync(directory).toSorted()).toEqual(exported.files.toSorted());
    const text = readFileSync(join(directory, "README.md"), "utf8");
    for (const { name: tensor, shape } of readByHand(join(directory, "model.safetensors")).tensors) {
      expect(text).toContain(`| ${tensor} | [${shape.join(", ")}] |`);
    }
  });
});

test("a user's nested model without names loads in plain TensorFlow.js too", async () => {
  const directory = mkdtempSync(join(tmpdir(), "lockstep-export-"));
  try {
    const inner = tf.sequential({
      layers: [
        tf.layers.separableConv2d({ inputShape: [16, 16, 3], filters: 4, kernelSize: 3, activation: "relu" }),
        tf.layers.batchNormalization({ scale: false }),
        tf.layers.conv2d({ filters: 5, kernelSize: 3, strides: 2 }),
        tf.layers.prelu({ sharedAxes: [1, 2] }),
      ],
    });
    const model = tf.sequential({ layers: [inner, tf.layers.flatten(), tf.layers.dense({ units: 4 })] });
    const bench = new Bench(tf, model, { samples: 5 });
    fillWeights(bench);
    bench.run();
    await exportModel(model, bench.layout, bench.weights, directory, { model: "file", ...facts });
    const { logits } = new Predictor(tf, model, bench.layout, bench.weights).run(bench.images.slice(), SHAPE, false);
    closeTo(plain(directory, bench), logits);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});
