import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import type { Tensor, Tensor4D } from "@tensorflow/tfjs-core";
import { writeSynthetic } from "../../deploy/data/synthetic.ts";
import { openDataset } from "../../shared/data/dataset.ts";
import { layoutOf } from "../../shared/model/layout.ts";
import { spreadOf } from "../../worker/bench/spread.ts";
import { evaluateBatch } from "../../worker/compute/evaluate.ts";
import { tensorsOf } from "../../worker/compute/model-tensors.ts";
import { buildModel } from "../../worker/compute/models/index.ts";
import { Predictor } from "../../worker/compute/predictor.ts";
import { computeEnvironment, loadTensorFlow, type TensorFlow } from "../../worker/compute/tensorflow.ts";
import { fillWeights } from "../compute/support.ts";
import { madeConfig } from "../evaluation/made-run.ts";

/**
 * Speed of evaluation with maps, beside the model's plain forward pass of the same images:
 *
 *     npm run bench:evaluate -- [--rounds 5] [--images 400] [--batch 100] [--models alexnet,resnet] [--data DIR] [--json]
 *
 * Evaluation reads and normalises images, predicts them, averages over mirror images where asked, makes the maps of the predicted and of
 * the true class and hands all of it out. The plain pass has its images in memory and gives the logits, of as many passes. One
 * thread, in turns, medians.
 */
const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "5" },
    images: { type: "string", default: "400" },
    batch: { type: "string", default: "100" },
    models: { type: "string", default: "alexnet,resnet" },
    data: { type: "string", default: process.env.LOCKSTEP_DATA ?? "" },
    json: { type: "boolean", default: false },
  },
});
const [rounds, images, size] = [Number(values.rounds), Number(values.images), Number(values.batch)];
Object.assign(process.env, computeEnvironment({ device: "cpu", threads: 1 }));
const tf: TensorFlow = loadTensorFlow();
const say = (text: string) => void (values.json ? process.stderr : process.stdout).write(`${text}\n`);

const scratch = mkdtempSync(join(tmpdir(), "lockstep-evaluate-"));
if (values.data === "") await writeSynthetic(scratch, { train: 20, test: images, classes: 10, side: 96, seed: 1 });
const dataset = openDataset(values.data === "" ? scratch : values.data);
const batches = Math.floor(Math.min(images, dataset.test.count) / size);
const classes = dataset.classNames.length;
const { height, width, channels } = dataset.shape;

async function measure(name: string, flipAveraging: boolean) {
  const config = { name, options: {}, sourceSha256: null };
  const model = await buildModel(tf, config, [height, width, channels], classes, null);
  const layout = layoutOf(
    tensorsOf(model).map(({ spec }) => spec),
    4 << 20,
  );
  const weights = new Float32Array(layout.stateFloats);
  fillWeights({ layout, weights });
  const predictor = new Predictor(tf, model, layout, weights);
  const recipe = { ...madeConfig.recipe, flipAveraging, resolutions: [{ fromEpoch: 0, side: height }] };
  const pixels = tf.keep(tf.randomNormal([size, height, width, channels], 0, 1, "float32", 1)) as Tensor4D;
  const plain = () => {
    for (let pass = 0; pass < (flipAveraging ? 2 : 1); pass++)
      tf.tidy(() => void (model.predictOnBatch(pixels) as Tensor).dataSync());
  };
  const whole = (batch: number) => void evaluateBatch(predictor, dataset, { recipe }, batch, size);
  const timed = (work: (batch: number) => void): number => {
    const started = performance.now();
    for (let batch = 0; batch < batches; batch++) work(batch);
    return (1000 * batches * size) / (performance.now() - started);
  };
  plain();
  whole(0);
  const found: { plain: number; whole: number }[] = [];
  for (let round = 0; round < rounds; round++) {
    const first = round % 2 === 0 ? timed(plain) : timed(whole);
    const second = round % 2 === 0 ? timed(whole) : timed(plain);
    found.push(round % 2 === 0 ? { plain: first, whole: second } : { plain: second, whole: first });
  }
  pixels.dispose();
  model.dispose();
  const ratio = spreadOf(found.map((one) => one.whole / one.plain));
  const [a, b] = [spreadOf(found.map((one) => one.plain)), spreadOf(found.map((one) => one.whole))];
  return { model: name, flipAveraging, plain: a, whole: b, ratio };
}

say(`${batches * size} images in batches of ${size}, one thread, in turns, medians (quartiles) of ${rounds}\n`);
say("| model | flip averaging | plain forward, images/s | evaluation with maps, images/s | ratio |");
say("|---|---|---:|---:|---:|");
for (const name of values.models.split(",")) {
  for (const flipAveraging of [false, true]) {
    const result = await measure(name, flipAveraging);
    const { plain, whole, ratio } = result;
    const text = ({ median, first, third }: typeof plain, digits: number) =>
      `${median.toFixed(digits)} (${first.toFixed(digits)} to ${third.toFixed(digits)})`;
    say(`| ${name} | ${flipAveraging ? "yes" : "no"} | ${text(plain, 1)} | ${text(whole, 1)} | ${text(ratio, 3)} |`);
    if (values.json) process.stdout.write(`${JSON.stringify(result)}\n`);
  }
}
dataset.close();
rmSync(scratch, { recursive: true, force: true });
process.exit(0);
