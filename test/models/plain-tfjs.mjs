// Predicts with plain TensorFlow.js on its CPU backend, as a user of the exported model would. Reads
// {"directory", "shape", "images"} from standard input and writes the logits. Knows nothing of Lockstep.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as tf from "@tensorflow/tfjs";

await tf.setBackend("cpu");
const { directory, shape, images } = JSON.parse(readFileSync(0, "utf8"));
const json = JSON.parse(readFileSync(join(directory, "model.json"), "utf8"));
const parts = json.weightsManifest.flatMap(({ paths }) => paths.map((path) => readFileSync(join(directory, path))));
const bytes = Buffer.concat(parts);
const model = await tf.loadLayersModel(
  tf.io.fromMemory({
    modelTopology: json.modelTopology,
    weightSpecs: json.weightsManifest.flatMap(({ weights }) => weights),
    weightData: bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length),
  }),
);
const logits = model.predict(tf.tensor(images, shape));
process.stdout.write(JSON.stringify({ backend: tf.getBackend(), logits: [...logits.dataSync()] }));
