import { createHash } from "node:crypto";
import { mkdir, open, rename } from "node:fs/promises";
import { join } from "node:path";
import type { LayersModel } from "@tensorflow/tfjs-layers";
import { bytesOf, exportedSlots, exportedValues, weightsSha256 } from "../../shared/model/export.ts";
import type { Layout } from "../../shared/model/layout.ts";
import { encodeHeader } from "../../shared/model/safetensors.ts";
import { tensorsOf } from "./model-tensors.ts";

/** What a reader of the exported model must know to feed it. */
export interface ModelCardFacts {
  /** Name of the model. */
  readonly model: string;
  readonly classNames: readonly string[];
  /** Shape of the images that it was evaluated on, [height, width, channels]. */
  readonly inputShape: readonly [number, number, number];
  /** Per channel: an input is (pixel / 255 - mean) / deviation. */
  readonly mean: readonly number[];
  readonly deviation: readonly number[];
  /** More facts for the files' metadata: run, recipe, step, lineage. */
  readonly metadata: Readonly<Record<string, string>>;
}

export interface ExportedModel {
  /** SHA-256 over the float32 little-endian bytes of all tensors, trainable then statistics. */
  readonly weightsSha256: string;
  /** Trainable values. */
  readonly parameters: number;
  /** Size of model.safetensors. */
  readonly modelBytes: number;
  /** SHA-256 of model.safetensors. */
  readonly modelSha256: string;
  readonly files: readonly string[];
}

/** Bytes of one weight file of model.json, the size that TensorFlow.js itself uses. */
const WEIGHT_FILE_BYTES = 4 * 2 ** 20;

/**
 * Writes a model directory, each file whole or not at all: model.json with its weight files (a LayersModel that plain
 * TensorFlow.js loads), model.safetensors with the same tensors, and README.md with their names and shapes.
 * @param vector flat weight vector of the layout (the weights or their moving average)
 */
export async function exportModel(
  model: LayersModel,
  layout: Layout,
  vector: Float32Array,
  directory: string,
  facts: ModelCardFacts,
): Promise<ExportedModel> {
  await mkdir(directory, { recursive: true });
  const slots = exportedSlots(layout);
  const values = exportedValues(layout, vector).map(bytesOf);
  const sha256 = weightsSha256(layout, vector);
  const metadata = {
    format: "lockstep-model-1",
    model: facts.model,
    classes: JSON.stringify(facts.classNames),
    inputShape: JSON.stringify(facts.inputShape),
    mean: JSON.stringify(facts.mean),
    deviation: JSON.stringify(facts.deviation),
    weightsSha256: sha256,
    ...facts.metadata,
  };
  const infos = slots.map(({ name, shape }) => ({ name, dtype: "F32" as const, shape }));
  const tensorsFile = await writeWhole(directory, "model.safetensors", [encodeHeader(infos, metadata), ...values]);

  const parts = cut(values, WEIGHT_FILE_BYTES);
  const paths = parts.map((_, i) => `weights-${i + 1}-of-${parts.length}.bin`);
  for (const [i, part] of parts.entries()) await writeWhole(directory, paths[i]!, part);
  const topology = JSON.stringify({
    format: "layers-model",
    generatedBy: "Lockstep",
    convertedBy: null,
    modelTopology: model.toJSON(null, false),
    weightsManifest: [{ paths, weights: manifestOf(model, layout) }],
    userDefinedMetadata: metadata,
  });
  await writeWhole(directory, "model.json", [Buffer.from(topology)]);
  const parameters = layout.trainable.reduce((sum, { size }) => sum + size, 0);
  const card = Buffer.from(readme(layout, facts, { weightsSha256: sha256, parameters, modelBytes: tensorsFile.bytes }));
  await writeWhole(directory, "README.md", [card]);
  return {
    weightsSha256: sha256,
    parameters,
    modelBytes: tensorsFile.bytes,
    modelSha256: tensorsFile.sha256,
    files: ["model.json", ...paths, "model.safetensors", "README.md"],
  };
}

/** TensorFlow.js finds a weight by the name that it gave it itself. */
function manifestOf(model: LayersModel, layout: Layout) {
  const names = new Map(tensorsOf(model).map(({ spec, variable }) => [spec.name, variable.originalName]));
  return exportedSlots(layout).map(({ name, shape }) => ({ name: names.get(name)!, shape, dtype: "float32" }));
}

/** The concatenation of `pieces` in parts of at most `size` bytes. */
function cut(pieces: readonly Uint8Array[], size: number): Uint8Array[][] {
  const parts: Uint8Array[][] = [[]];
  let room = size;
  for (const piece of pieces) {
    for (let at = 0; at < piece.length; ) {
      if (room === 0) {
        parts.push([]);
        room = size;
      }
      const taken = piece.subarray(at, at + room);
      parts.at(-1)!.push(taken);
      at += taken.length;
      room -= taken.length;
    }
  }
  return parts;
}

async function writeWhole(directory: string, name: string, pieces: readonly Uint8Array[]) {
  const path = join(directory, name);
  const hash = createHash("sha256");
  const handle = await open(`${path}.partial`, "w");
  let bytes = 0;
  try {
    for (const piece of pieces) {
      // A copy: the file system must not read shared memory that changes.
      const copy = Buffer.from(piece);
      hash.update(copy);
      await handle.writeFile(copy);
      bytes += copy.length;
    }
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(`${path}.partial`, path);
  return { bytes, sha256: hash.digest("hex") };
}

function readme(
  layout: Layout,
  { model, classNames, inputShape, mean, deviation }: ModelCardFacts,
  { weightsSha256, parameters, modelBytes }: Pick<ExportedModel, "weightsSha256" | "parameters" | "modelBytes">,
): string {
  const rows = exportedSlots(layout).map(({ name, shape, role }) => `| ${name} | [${shape.join(", ")}] | ${role} |`);
  return `# ${model}

${parameters.toLocaleString("en-US")} trainable parameters; model.safetensors has ${modelBytes.toLocaleString("en-US")} bytes.

- \`model.json\` with its weight files: \`tf.loadLayersModel("file://…/model.json")\` in TensorFlow.js.
- \`model.safetensors\`: the tensors below, float32. Kernels of convolutions are [height, width, in, out], of dense
  layers [in, out].
- SHA-256 of all tensors' bytes in this order: \`${weightsSha256}\`

Input: float32 [batch, ${inputShape.join(", ")}], channels last, each value (pixel / 255 - mean) / deviation with mean
[${mean.join(", ")}] and deviation [${deviation.join(", ")}]. Output: one logit for each class, in this order:
${classNames.join(", ")}.

| tensor | shape | role |
|---|---|---|
${rows.join("\n")}
`;
}
