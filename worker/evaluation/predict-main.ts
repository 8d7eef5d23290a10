import { openDataset } from "../../shared/data/dataset.ts";
import { LockstepError } from "../../shared/errors.ts";
import { evaluateBatch } from "../compute/evaluate.ts";
import { loadTensorFlow } from "../compute/tensorflow.ts";
import { loadModel } from "./load-model.ts";
import type { PredictorReply, PredictorRequest } from "./predict-pool.ts";

/**
 * A process that predicts batches of the test set for `lockstep evaluate`, one at a time, as its parent asks. TensorFlow's
 * settings stand in its environment. It ends with its parent.
 */
const reply = (message: PredictorReply) => void process.send?.(message);

function fail(error: unknown): void {
  const known = error instanceof LockstepError;
  reply({
    kind: "failed",
    code: known ? error.code : "LS_EVALUATION_PROCESS",
    message: known ? error.message : `The evaluation failed: ${(error as Error).message ?? error}`,
    hint: known ? error.hint : undefined,
    exitCode: known ? error.exitCode : 1,
  });
}

type Predict = (batch: number) => void;

async function load({
  checkpoint,
  dataDirectory,
  size,
}: Extract<PredictorRequest, { kind: "load" }>): Promise<Predict> {
  const { predictor, recipe, parameters, weightBytes } = await loadModel(loadTensorFlow(), checkpoint);
  const dataset = openDataset(dataDirectory);
  reply({ kind: "ready", classes: recipe.data.classes, parameters, weightBytes });
  return (batch) => reply({ kind: "predicted", batch: evaluateBatch(predictor, dataset, { recipe }, batch, size) });
}

let predict: Promise<Predict> | null = null;
process.on("message", (request: PredictorRequest) => {
  if (request.kind === "load") predict = load(request);
  const batch = request.kind === "predict" ? request.batch : null;
  void predict?.then((run) => batch !== null && run(batch)).catch(fail);
});
process.on("disconnect", () => process.exit(0));
