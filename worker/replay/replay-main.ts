import { createHash } from "node:crypto";
import { openDataset } from "../../shared/data/dataset.ts";
import { errorFacts } from "../../shared/errors.ts";
import { Plan } from "../../shared/plan/plan.ts";
import type { Replayed, ReplayReply, ReplayTask } from "./replay.ts";
import { Replayer } from "./replayer.ts";

/**
 * A process that does a part of a run again, as its parent asks: from a checkpoint to a step, then one shard of that step
 * or the whole of it. TensorFlow's settings stand in its environment. It ends with its parent.
 */
const reply = (message: ReplayReply) => void process.send?.(message);

async function replay(task: ReplayTask): Promise<Replayed> {
  const { config, checkpoint, step, shard, stateHashes } = task;
  const replayer = await Replayer.start(config);
  if (checkpoint !== null) await replayer.load(checkpoint.file, checkpoint.tip);
  const from = replayer.tip.step;
  let departed: number | null = null;
  while (replayer.tip.step < step) {
    const next = replayer.tip.step;
    reply({ kind: "progress", step: next });
    await replayer.step();
    const recorded = stateHashes[next - from] ?? "";
    if (departed === null && recorded !== "" && recorded !== replayer.tip.stateHash) departed = next;
  }
  reply({ kind: "progress", step });
  const { layout, plan, fingerprint, facts } = replayer.ready;
  const common = {
    from,
    departed,
    fingerprint,
    layout: {
      tensors: [...layout.trainable, ...layout.statistics],
      sections: facts.sections,
      blocks: plan.reduced[0].entries,
    },
    before: replayer.state(),
  };
  if (shard !== null) {
    const { record, gradient } = await replayer.shard(shard);
    return { ...common, record, gradient, images: imagesOf(task, shard), after: null, afterHash: null };
  }
  await replayer.step();
  const after = replayer.state();
  return { ...common, record: null, gradient: null, images: [], after, afterHash: replayer.tip.stateHash };
}

/** Hashes of the stored images of a micro-batch and their labels. */
function imagesOf({ config, step }: ReplayTask, shard: number): Replayed["images"] {
  const { seed, shards, stepsPerEpoch } = config.recipe;
  const dataset = openDataset(config.place.dataDirectory, config.recipe.trainingPart);
  try {
    const { labels } = dataset.train;
    const { channels, height, width } = dataset.shape;
    const stored = new Uint8Array(channels * height * width + 1);
    return [...new Plan({ labels, seed, shards, stepsPerEpoch }).microBatch(step, shard)].map((id) => {
      dataset.train.read(id, stored);
      stored[stored.length - 1] = labels[id]!;
      return { id, hash: createHash("sha256").update(stored).digest("hex") };
    });
  } finally {
    dataset.close();
  }
}

process.on("message", (task: ReplayTask) => {
  replay(task).then(
    (replayed) => reply({ kind: "replayed", replayed }),
    (error: unknown) => reply({ kind: "failed", ...errorFacts(error, "LS_REPLAY") }),
  );
});
process.on("disconnect", () => process.exit(0));
