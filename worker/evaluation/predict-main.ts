import { openDataset } from "../../shared/data/dataset.ts";
import { errorFacts, LockstepError, sentenceOf } from "../../shared/errors.ts";
import { evaluateBatch } from "../compute/evaluate.ts";
import { loadTensorFlow } from "../compute/tensorflow.ts";
import { Examiner } from "./faithfulness/examine.ts";
import { loadModel } from "./load-model.ts";
import type { PoolTask, PredictorReply, PredictorRequest } from "./predict-pool.ts";

/**
 * A process that predicts batches of the test set for `lockstep evaluate`, one at a time, as its parent asks. TensorFlow's
 * settings stand in its environment. It ends with its parent.
 */
const reply = (message: PredictorReply) => void process.send?.(message);

function fail(error: unknown): void {
  const known = error instanceof LockstepError ? error : new Error(`The evaluation failed: ${sentenceOf(error)}`);
  reply({ kind: "failed", ...errorFacts(known, "LS_EVALUATION_PROCESS") });
}

type Work = (task: PoolTask) => void;

async function load({
  checkpoint,
  dataDirectory,
  part,
  size,
}: Extract<PredictorRequest, { kind: "load" }>): Promise<Work> {
  const { predictor, recipe, parameters, weightBytes } = await loadModel(loadTensorFlow(), checkpoint);
  const dataset = openDataset(dataDirectory, part);
  const hasMaps = predictor.mapMethod !== null;
  const examiner = new Examiner(predictor, dataset, recipe);
  reply({ kind: "ready", classes: recipe.data.classes, parameters, weightBytes, mapMethod: predictor.mapMethod });
  return (task) => {
    switch (task.kind) {
      case "predict":
        return reply({ kind: "predicted", batch: evaluateBatch(predictor, dataset, { recipe }, task.batch, size) });
      case "examine":
        return reply({ kind: "examined", image: hasMaps ? examiner.examine(task.image) : null });
      case "cascade":
        return reply({ kind: "cascaded", steps: hasMaps ? examiner.cascade(task.images) : [] });
    }
  };
}

let work: Promise<Work> | null = null;
process.on("message", (request: PredictorRequest) => {
  if (request.kind === "load") work = load(request);
  void work?.then((run) => request.kind !== "load" && run(request)).catch(fail);
});
process.on("disconnect", () => process.exit(0));
