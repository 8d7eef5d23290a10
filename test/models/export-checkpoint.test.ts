import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import type { Config } from "../../shared/config/schema.ts";
import { layoutOf } from "../../shared/model/layout.ts";
import { encodeHeader } from "../../shared/model/safetensors.ts";
import { exportCheckpoint } from "../../worker/compute/export-checkpoint.ts";
import { tensorsOf } from "../../worker/compute/model-tensors.ts";
import { buildModel } from "../../worker/compute/models/index.ts";
import { fillNormal, tensorflow } from "../compute/support.ts";
import { smallRecipe } from "../loader/support.ts";

const tf = tensorflow();
const directory = mkdtempSync(join(tmpdir(), "lockstep-checkpoint-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const classNames = ["a", "b", "c", "d"];

function configOf(ema: boolean, widths = [3, 4, 5]): Config {
  const model = { name: "alexnet", sourceSha256: null, options: { widths }, statisticsMomentum: 0.9 };
  const recipe = smallRecipe({ model, ema: ema ? { decay: 0.99 } : null });
  return { runId: "run-1", recipe, place: { modelFile: null } as Config["place"] };
}

async function checkpointOf(config: Config) {
  const model = await buildModel(tf, config.recipe.model, [12, 12, 3], 4, null);
  const specs = tensorsOf(model).map(({ spec }) => spec);
  const layout = layoutOf(specs, config.recipe.bucketBytes);
  const vectors = { weights: layout.stateFloats, momentum: layout.trainableFloats, ema: layout.stateFloats };
  const names = Object.keys(vectors) as (keyof typeof vectors)[];
  const infos = names.map((name) => ({ name, dtype: "F32" as const, shape: [vectors[name]] }));
  const values = names.map((name, i) => {
    const vector = new Float32Array(vectors[name]);
    fillNormal(vector, i + 1);
    return vector;
  });
  const file = join(directory, "step-7.safetensors");
  const header = encodeHeader(infos, { step: "7", lineage: "abc" });
  writeFileSync(file, Buffer.concat([header, ...values.map((vector) => new Uint8Array(vector.buffer))]));
  return { file, layout, weights: values[0]!, ema: values[2]! };
}

test.each([true, false])("exports what was trained, moving average: %s", async (ema) => {
  const config = configOf(ema);
  const { file, layout, ...vectors } = await checkpointOf(config);
  const out = join(directory, `model-${ema}`);
  const { weightsSha256 } = await exportCheckpoint(tf, config, classNames, file, out);
  const vector = ema ? vectors.ema : vectors.weights;
  const hash = createHash("sha256");
  for (const { offset, size } of [...layout.trainable, ...layout.statistics])
    hash.update(vector.slice(offset, offset + size));
  expect(weightsSha256).toBe(hash.digest("hex"));
  const { userDefinedMetadata } = JSON.parse(readFileSync(join(out, "model.json"), "utf8"));
  expect(userDefinedMetadata).toMatchObject({ run: "run-1", step: "7", lineage: "abc", inputShape: "[12,12,3]" });
});

test("a checkpoint of another model is refused", async () => {
  const { file } = await checkpointOf(configOf(false));
  const other = configOf(false, [30, 40, 50]);
  await expect(exportCheckpoint(tf, other, classNames, file, directory)).rejects.toMatchObject({
    code: "LS_CHECKPOINT_MODEL",
  });
});
