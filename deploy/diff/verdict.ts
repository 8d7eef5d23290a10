import type { FirstDifference } from "./compare.ts";
import type { Explanation, RunReplay } from "./explain.ts";

/** Why two runs part, in one word and one sentence, and the first layer that differs where it is known. */
export interface Verdict {
  readonly cause: "damage" | "samples" | "images" | "state" | "config" | "machine" | "unknown";
  /** The run that is not what its own recipe and data give; null where that is neither or both. */
  readonly run: "a" | "b" | null;
  readonly layer: string | null;
  readonly sentence: string;
}

/** Pure. `workers`: who computed the shard; null where the step differs as a whole. */
export function verdictOf(
  first: FirstDifference,
  { a, b, images, before, layers }: Explanation,
  workers: { readonly a: string; readonly b: string } | null,
): Verdict {
  const firstLayer = layers[0]?.name ?? null;
  if (a === null || b === null) return verdict("unknown", null, null, "The cause was not looked for.");
  const wrong = (
    [
      ["a", a],
      ["b", b],
    ] as const
  ).filter(([, replay]) => !replay.asRecorded);
  const [only] = wrong;
  if (wrong.some(([, replay]) => !replay.sameFingerprint)) {
    const sentence = "This machine does not compute as the run's workers did, so that a replay cannot tell the cause.";
    return verdict("machine", null, firstLayer, sentence);
  }
  if (wrong.length === 1 && only !== undefined) {
    const [run, replay] = only;
    return ofOne(run, replay, workers?.[run] ?? "", first);
  }
  if (wrong.length === 2) return verdict("unknown", null, null, "Neither run is what its recipe and data give here.");
  if (images.length > 0) {
    const list = images.length === 1 ? `image ${images[0]}` : `${images.length} images, ${images[0]} the first`;
    return verdict("images", null, firstLayer, `The data sets differ in what this shard was fed: ${list}.`);
  }
  if (before.length > 0) {
    const sentence = `The runs began ${first.step === 0 ? "with different weights" : "the step on different states"}, ${before[0]!.name} the first.`;
    return verdict("state", null, firstLayer, sentence);
  }
  if (first.kind === "samples") {
    return verdict("config", null, firstLayer, "By their recipes the runs feed other samples in this step.");
  }
  return verdict("config", null, firstLayer, "Equal states and equal images: the recipes make the difference.");
}

function ofOne(
  run: "a" | "b",
  { samplesAsRecorded, located }: RunReplay,
  worker: string,
  { kind }: FirstDifference,
): Verdict {
  if (!samplesAsRecorded) {
    return verdict("samples", run, null, `Worker ${worker} of ${run} did not feed the samples of its plan.`);
  }
  if (kind === "update") {
    return verdict("damage", run, null, `The state of ${run} after this step is not what its gradients give.`);
  }
  const flip = located?.flip ?? null;
  if (flip !== null) {
    const at = `${flip.tensor}[${flip.index.join(", ")}]`;
    const sentence = `Worker ${worker} of ${run} computed something else than the same inputs give: bit ${flip.bit} of ${at} was flipped (${short(flip.value)} became ${short(flip.became)}).`;
    return verdict("damage", run, flip.tensor, sentence);
  }
  const where =
    located === null
      ? "in more than one place"
      : located.tensors.length === 0
        ? "in the sums of loss, hits and samples"
        : `in ${located.tensors.join(" or ")}`;
  const sentence = `Worker ${worker} of ${run} computed something else than the same inputs give, ${where}.`;
  return verdict("damage", run, located?.tensors[0] ?? null, sentence);
}

const verdict = (cause: Verdict["cause"], run: Verdict["run"], layer: string | null, sentence: string): Verdict => ({
  cause,
  run,
  layer,
  sentence,
});

/** As many digits as tell two float32 numbers apart. */
const short = (value: number) => Number(value.toPrecision(9));
