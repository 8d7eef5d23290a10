import { join } from "node:path";
import { checkpointDirectory } from "../../coordinator/checkpoints/checkpoint-files.ts";
import { newestSound } from "../../coordinator/checkpoints/flaw.ts";
import { digestOf } from "../../coordinator/records/record.ts";
import { trainingSha256 } from "../../shared/data/dataset.ts";
import { sentenceOf } from "../../shared/errors.ts";
import { SafetensorsFile } from "../../shared/model/safetensors.ts";
import { type Replayed, type ReplayOptions, type ReplayTask, replay } from "../../worker/replay/replay.ts";
import type { FirstDifference } from "./compare.ts";
import { type Located, locate } from "./locate.ts";
import type { RunHistory } from "./run-history.ts";
import { differingState, differingTensors, type TensorDifference } from "./tensors.ts";

/** What doing the step again says about one run. */
export interface RunReplay {
  /** Step of the checkpoint that it started from; 0: the initial state. */
  readonly from: number;
  /** Does this machine compute as the run's workers did, by the fingerprint? */
  readonly sameFingerprint: boolean;
  /** The first step after which the replayed state is not the recorded one; null where all are. */
  readonly departed: number | null;
  /** Samples, and gradient (or state after the update), as the run recorded them? */
  readonly samplesAsRecorded: boolean;
  readonly asRecorded: boolean;
  /** Where the recorded gradient differs from the replayed one; null where it does not, or in several places. */
  readonly located: Located | null;
}

/** Why two runs part, as far as it can be found out by doing the step again. */
export interface Explanation {
  /** Null where that run could not be replayed; `failures` says why. */
  readonly a: RunReplay | null;
  readonly b: RunReplay | null;
  readonly failures: readonly string[];
  /** Sample ids of the shard whose stored images or labels differ between the data sets. */
  readonly images: readonly number[];
  /** Tensors that differ before the step, and in its gradient (or in the state after it), by replay. */
  readonly before: readonly TensorDifference[];
  readonly layers: readonly TensorDifference[];
  /** The first checkpoint behind the difference that both runs have, and the tensors that differ there. */
  readonly checkpoint: { readonly step: number; readonly tensors: readonly TensorDifference[] } | null;
}

export interface ExplainOptions extends Omit<ReplayOptions, "onProgress"> {
  /** A data set in place of the runs' own directories. */
  readonly data: string | null;
  /** `run` is doing `step` again. */
  readonly onProgress: (run: RunHistory, step: number) => void;
}

/** Does the step where two runs part again under each run's conditions. @throws the signal's reason */
export async function explain(
  a: RunHistory,
  b: RunHistory,
  first: FirstDifference,
  options: ExplainOptions,
): Promise<Explanation> {
  const failures: string[] = [];
  const replays: (Replayed | null)[] = [];
  for (const run of [a, b]) {
    replays.push(
      await replayRun(run, first, options).catch((error: unknown) => {
        options.signal.throwIfAborted();
        failures.push(`${run.name} cannot be replayed: ${sentenceOf(error)}`);
        return null;
      }),
    );
  }
  const [left, right] = replays as [Replayed | null, Replayed | null];
  const layout = (left ?? right)?.layout ?? null;
  return {
    a: left && (await judge(a, left, first)),
    b: right && (await judge(b, right, first)),
    failures,
    images: left && right ? differingImages(left, right) : [],
    before: left && right ? differingState(left.before, right.before, left.layout, right.layout) : [],
    layers: left && right ? differingLayers(left, right) : [],
    checkpoint: layout && (await nextCheckpoint(a, b, first.step, layout)),
  };
}

async function replayRun(run: RunHistory, first: FirstDifference, options: ExplainOptions): Promise<Replayed> {
  const { data, onProgress } = options;
  const dataDirectory = data ?? run.config.place.dataDirectory;
  if ((await trainingSha256(dataDirectory)) !== run.config.recipe.data.sha256) {
    throw new Error(`${dataDirectory} does not hold its training data any more (--data names another directory)`);
  }
  const checkpoints = join(run.directory, "checkpoints");
  const start = await newestSound(checkpointDirectory(checkpoints), run.checkpoints, first.step);
  const from = start?.tip.step ?? 0;
  const task: ReplayTask = {
    config: { ...run.config, place: { ...run.config.place, dataDirectory } },
    checkpoint: start && { file: join(checkpoints, start.file), tip: start.tip },
    step: first.step,
    shard: first.shard,
    stateHashes: run.steps.slice(from, first.step).map(({ state }) => state),
  };
  return replay(task, { ...options, onProgress: (step) => onProgress(run, step) });
}

async function judge(run: RunHistory, replayed: Replayed, { step, shard }: FirstDifference): Promise<RunReplay> {
  const { from, departed, fingerprint, record, gradient, afterHash, layout } = replayed;
  const recorded = run.steps[step]!;
  const sameFingerprint = fingerprint.join() === run.fingerprint?.join();
  const common = { from, sameFingerprint, departed };
  if (shard === null || record === null || gradient === null) {
    return { ...common, samplesAsRecorded: true, asRecorded: afterHash === recorded.state, located: null };
  }
  const digest = digestOf(recorded.gradients, shard);
  const samplesAsRecorded = record.idsDigest === digestOf(recorded.ids, shard);
  const asRecorded = record.gradientDigest === digest;
  const located = asRecorded ? null : await locate(gradient, record.gradientDigest, digest, layout);
  return { ...common, samplesAsRecorded, asRecorded, located };
}

function differingImages(a: Replayed, b: Replayed): number[] {
  const hashes = new Map(b.images.map(({ id, hash }) => [id, hash]));
  return a.images.filter(({ id, hash }) => hashes.has(id) && hashes.get(id) !== hash).map(({ id }) => id);
}

function differingLayers(a: Replayed, b: Replayed): TensorDifference[] {
  if (a.gradient !== null && b.gradient !== null) return differingTensors(a.gradient, b.gradient, a.layout, b.layout);
  return a.after !== null && b.after !== null ? differingState(a.after, b.after, a.layout, b.layout) : [];
}

async function nextCheckpoint(a: RunHistory, b: RunHistory, step: number, layout: Replayed["layout"]) {
  const steps = new Set(b.checkpoints.map(({ tip }) => tip.step));
  const found = a.checkpoints.find(({ tip }) => tip.step > step && steps.has(tip.step))?.tip.step;
  if (found === undefined) return null;
  const [left, right] = await Promise.all([stateAt(a, found), stateAt(b, found)]);
  if (left.length !== right.length) return null;
  return { step: found, tensors: differingState(left, right, layout) };
}

async function stateAt(run: RunHistory, step: number): Promise<Float32Array> {
  const { file } = run.checkpoints.find(({ tip }) => tip.step === step)!;
  const checkpoint = await SafetensorsFile.open(join(run.directory, "checkpoints", file));
  try {
    return await checkpoint.allFloats();
  } finally {
    await checkpoint.close();
  }
}
